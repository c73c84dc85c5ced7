using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using NUnit.Framework;
using OpenWeights.LibTorch.Tests.Api;
using OpenWeights.Testing;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>
/// The library and the program compile against every overload that TorchSharp has, as its package is published, also where they are built
/// over an installed libtorch.
/// </summary>
public sealed class CompilesAgainstTorchSharpTests
{
    private static readonly CompilerInputs s_inputs = CompilerInputs.Read();
    private static readonly PortableExecutableReference s_published = MetadataReference.CreateFromFile(PublishedTorchSharp.Location);
    private static readonly Lazy<CSharpCompilation> s_meaning = new(static () => Compile(TestsOfMeaning()));

    [Test]
    public void The_tests_of_meaning_compile_against_all_of_TorchSharp()
    {
        var errors = Errors(s_meaning.Value);
        Assert.That(errors, Is.Empty, () => string.Join('\n', errors));
    }

    [TestCase("_ = x.no_such_member();", "CS1061", TestName = "A_member_that_TorchSharp_lacks_does_not_compile")]
    [TestCase("_ = nn.functional.linear(x, x, x, x);", "CS1501", TestName = "One_argument_too_many_does_not_compile")]
    [TestCase("_ = nn.functional.dropout(x, probability: 0.1);", "CS1739", TestName = "Another_name_of_an_argument_does_not_compile")]
    [TestCase("int n = x.size(0);", "CS0266", TestName = "Another_type_of_a_result_does_not_compile")]
    [TestCase("_ = x.item<string>();", "CS8377", TestName = "A_type_argument_outside_of_its_constraint_does_not_compile")]
    [TestCase("x.Handle = 0;", "CS0200", TestName = "A_setter_that_TorchSharp_lacks_does_not_compile")]
    [TestCase("_ = x.clamp();", "CS0121", TestName = "A_call_that_TorchSharps_overloads_make_ambiguous_does_not_compile")]
    [TestCase("_ = x[0, ^1, 2..3] + 2 * x[1L] - x.sum([0, 1]) / 3f;", null, TestName = "Indexers_operators_and_collection_expressions_compile")]
    [TestCase("foreach (var (name, parameter) in new TorchSharp.Modules.ModuleList<nn.Module>().named_parameters()) { _ = name.Length + parameter.dim(); }", null, TestName = "Interfaces_and_tuples_compile")]
    [TestCase("_ = x.max(0).values + x.ToSingle() + torch.tensor(3).to(float32); using var d = no_grad();", null, TestName = "Tuple_names_and_extension_methods_compile")]
    public void A_line_is_judged_as_by_TorchSharp(string line, string? error)
    {
        var errors = Errors(Compile([Sample(line)]));
        Assert.That(errors, error is null ? Is.Empty : Has.Count.EqualTo(1).And.One.Contains(error));
    }

#if TORCH_SYSTEM
    private static readonly Dictionary<(string Folder, MetadataReference? Torch), Compilation> s_compiled = [];
    private static readonly PortableExecutableReference s_libTorch = MetadataReference.CreateFromFile(typeof(LibTorchRuntime).Assembly.Location);
    private static readonly Lazy<Bindings> s_meaningHere = new(static () => new(Compile(TestsOfMeaning(), s_libTorch)));

    // Under the other runtimes the build itself is that.
    [TestCase("OpenWeights.Tune")]
    [TestCase("OpenWeights.Tune.Cli")]
    public void A_project_compiles_against_all_of_TorchSharp(string project)
    {
        var errors = Errors(Compiled(Path.Combine(SharedFiles.Root, "src", project), s_published));
        Assert.That(errors, Is.Empty, () => string.Join('\n', errors));
    }

    [TestCase("OpenWeights.Tune")]
    [TestCase("OpenWeights.Tune.Cli")]
    public void Each_call_of_a_project_means_the_same_overload_here_and_in_TorchSharp(string project)
    {
        var folder = Path.Combine(SharedFiles.Root, "src", project);
        var differences = Bindings.Differences(new(Compiled(folder, s_libTorch)), new(Compiled(folder, s_published))).ToArray();
        Assert.That(differences, Is.Empty, () => string.Join('\n', differences));
    }

    [Test]
    public void Each_call_of_the_tests_of_meaning_means_the_same_overload_here_and_in_TorchSharp()
    {
        var differences = Bindings.Differences(s_meaningHere.Value, new(s_meaning.Value)).ToArray();
        Assert.That(differences, Is.Empty, () => string.Join('\n', differences));
    }

    [Test]
    public void The_tests_of_meaning_call_every_member()
    {
        var untested = s_meaningHere.Value.Shown(s_libTorch).Except(s_meaningHere.Value.Members).Order(StringComparer.Ordinal).ToArray();
        Assert.That(untested, Is.Empty, () => "What these members mean is tested nowhere in Meaning:\n    " + string.Join("\n    ", untested));
    }

    [TestCase("_ = x + 1;", "operator +(TorchSharp.torch.Tensor, TorchSharp.Scalar) here", "operator +(TorchSharp.torch.Tensor, int) there", TestName = "Another_overload_of_an_operator_is_seen")]
    [TestCase("_ = x.sum(0, 1);", "sum(params long[]) here", "sum(long, long, bool", TestName = "Another_overload_of_a_method_is_seen")]
    [TestCase("Scalar s = (short)1;", "Scalar(int) here", "Scalar(short) there", TestName = "Another_conversion_is_seen")]
    public void A_call_that_means_another_overload_is_seen(string line, string here, string there)
    {
        const string few = """
            namespace TorchSharp
            {
                public class Scalar { public static implicit operator Scalar(int value) => new(); }
                public static class torch
                {
                    public class Tensor { public static Tensor operator +(Tensor left, Scalar right) => left; public Tensor sum(params long[] dims) => this; }
                }
            }
            """;
        var torch = CSharpCompilation.Create("Few", [CSharpSyntaxTree.ParseText(few, CompilerInputs.ParseOptions)], s_inputs.References, new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary));
        var (ours, theirs) = (Compile([Sample(line)], torch.ToMetadataReference()), Compile([Sample(line)]));
        Assert.That(Errors(ours).Concat(Errors(theirs)), Is.Empty);
        var differences = Bindings.Differences(new(ours), new(theirs)).ToArray();
        Assert.That(differences, Has.One.Contains(here).And.One.Contains(there));
    }

    private static Compilation Compiled(string folder, MetadataReference torch)
    {
        var project = new ProjectSource(folder);
        var key = (folder, project.UsesTorch ? torch : null);
        if (!s_compiled.TryGetValue(key, out var compilation))
        {
            var others = project.References.Select(reference => Compiled(reference, torch).ToMetadataReference());
            s_compiled[key] = compilation = project.Compile(s_inputs, project.UsesTorch ? others.Append(torch) : others);
        }

        return compilation;
    }
#endif

    private static CSharpCompilation Compile(IEnumerable<(string Path, string Text)> sources, MetadataReference? torch = null) => CSharpCompilation.Create(
        "Sample",
        sources.Append(("Usings.cs", ProjectSource.ImplicitUsings)).Select(static source => CSharpSyntaxTree.ParseText(source.Item2, CompilerInputs.ParseOptions, source.Item1)),
        s_inputs.References.Append(torch ?? s_published),
        new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, allowUnsafe: true, nullableContextOptions: NullableContextOptions.Enable));

    private static (string Path, string Text) Sample(string line) =>
        ("Sample.cs", $"using TorchSharp; using static TorchSharp.torch; static class Sample {{ static void Run(Tensor x) {{ {line} }} }}");

    private static IEnumerable<(string Path, string Text)> TestsOfMeaning() =>
        Directory.GetFiles(Path.Combine(SharedFiles.Root, "tests", "OpenWeights.LibTorch.Tests", "Meaning"), "*.cs").Select(static path => (path, File.ReadAllText(path)));

    private static IReadOnlyList<string> Errors(Compilation compilation) =>
        [.. compilation.GetDiagnostics().Where(static d => d.Severity == DiagnosticSeverity.Error).Select(static d => d.ToString()).Take(40)];
}
