using System.Text;
using System.Xml.Linq;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>A project of this solution as its folder has it, to be compiled in memory.</summary>
internal sealed class ProjectSource
{
    /// <summary>The usings that the SDK adds.</summary>
    internal const string ImplicitUsings = """
        global using System;
        global using System.Collections.Generic;
        global using System.IO;
        global using System.Linq;
        global using System.Net.Http;
        global using System.Threading;
        global using System.Threading.Tasks;
        """;

    private readonly string _folder;
    private readonly XDocument _project;

    internal ProjectSource(string folder)
    {
        _folder = folder;
        var path = Directory.GetFiles(folder, "*.csproj").Single();
        _project = XDocument.Load(path);
        AssemblyName = _project.Descendants("AssemblyName").FirstOrDefault()?.Value ?? Path.GetFileNameWithoutExtension(path);
    }

    internal string AssemblyName { get; }

    /// <summary>The folders of the projects that this one refers to, and those that they refer to.</summary>
    internal IEnumerable<string> References => Items("ProjectReference")
        .Select(path => Path.GetDirectoryName(Path.GetFullPath(Path.Combine(_folder, path)))!)
        .SelectMany(static folder => new ProjectSource(folder).References.Append(folder))
        .Distinct();

    /// <summary>Whether the project, or one that it refers to, knows torch.</summary>
    internal bool UsesTorch => _project.Descendants("UsesTorch").Any() || References.Any(static folder => new ProjectSource(folder).UsesTorch);

    internal IReadOnlyList<string> Files => [.. Directory.EnumerateFiles(_folder, "*.cs", SearchOption.AllDirectories)
        .Where(file => Path.GetRelativePath(_folder, file).Split(Path.DirectorySeparatorChar)[0] is not ("bin" or "obj"))
        .Order(StringComparer.Ordinal)];

    /// <summary>Compiles the project against references and compiled projects, its source generators run.</summary>
    internal Compilation Compile(CompilerInputs inputs, IEnumerable<MetadataReference> others)
    {
        var trees = Files.Select(static file => CSharpSyntaxTree.ParseText(File.ReadAllText(file), CompilerInputs.ParseOptions, file, Encoding.UTF8))
            .Append(CSharpSyntaxTree.ParseText(ProjectWide(), CompilerInputs.ParseOptions, "Project.cs", Encoding.UTF8));
        var isProgram = _project.Descendants("OutputType").Any(static e => e.Value == "Exe");
        var options = new CSharpCompilationOptions(
            isProgram ? OutputKind.ConsoleApplication : OutputKind.DynamicallyLinkedLibrary, allowUnsafe: true, nullableContextOptions: NullableContextOptions.Enable);
        var compilation = CSharpCompilation.Create(AssemblyName, trees, inputs.References.Concat(others), options);
        _ = CSharpGeneratorDriver.Create(inputs.Generators, parseOptions: CompilerInputs.ParseOptions).RunGeneratorsAndUpdateCompilation(compilation, out var generated, out _);
        return generated;
    }

    private IEnumerable<string> Items(string name) => _project.Descendants(name).SelectMany(static e => e.Attribute("Include")?.Value.Split(';') ?? []);

    private string ProjectWide() => string.Join('\n', [
        ImplicitUsings,
        .. _project.Descendants("Using").Select(static e => $"global using {(e.Attribute("Static") is null ? "" : "static ")}{(e.Attribute("Alias") is { } alias ? alias.Value + " = " : "")}{e.Attribute("Include")!.Value};"),
        .. Items("InternalsVisibleTo").Select(static name => $"[assembly: System.Runtime.CompilerServices.InternalsVisibleTo(\"{name}\")]"),
    ]);
}
