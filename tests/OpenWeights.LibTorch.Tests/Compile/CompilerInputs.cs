using System.Collections.Immutable;
using System.Reflection;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Diagnostics;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>What a compiler gets beside source: the framework's and the packages' references, and the framework's source generators.</summary>
internal sealed class CompilerInputs
{
    internal static readonly CSharpParseOptions ParseOptions = new(
        LanguageVersion.CSharp14,
        DocumentationMode.None,
        preprocessorSymbols: ["NET", "NET10_0", .. Enumerable.Range(5, 6).Select(static n => $"NET{n}_0_OR_GREATER")]);

    private CompilerInputs(IReadOnlyList<MetadataReference> references, ImmutableArray<ISourceGenerator> generators)
    {
        References = references;
        Generators = generators;
    }

    internal IReadOnlyList<MetadataReference> References { get; }

    internal ImmutableArray<ISourceGenerator> Generators { get; }

    internal static CompilerInputs Read()
    {
        var files = File.ReadAllLines(Path.Combine(AppContext.BaseDirectory, "compiler-inputs.txt")).ToLookup(static file => IsAnalyzer(file));
        var generators = files[true]
            .Where(static file => file.Contains("Microsoft.NETCore.App.Ref", StringComparison.OrdinalIgnoreCase))
            .SelectMany(static file => new AnalyzerFileReference(file, new Loader()).GetGenerators(LanguageNames.CSharp));
        return new CompilerInputs([.. files[false].Where(static file => !IsOurs(file)).Select(static file => MetadataReference.CreateFromFile(file))], [.. generators]);
    }

    private static bool IsAnalyzer(string file) => file.Contains("/analyzers/", StringComparison.OrdinalIgnoreCase)
        || file.Contains("/codestyle/", StringComparison.OrdinalIgnoreCase)
        || file.Contains("\\analyzers\\", StringComparison.OrdinalIgnoreCase)
        || file.Contains("\\codestyle\\", StringComparison.OrdinalIgnoreCase);

    private static bool IsOurs(string file) => Path.GetFileName(file).StartsWith("OpenWeights.", StringComparison.Ordinal) || Path.GetFileName(file) == "TorchSharp.dll";

    private sealed class Loader : IAnalyzerAssemblyLoader
    {
        public void AddDependencyLocation(string fullPath)
        {
        }

        public Assembly LoadFromPath(string fullPath) => Assembly.LoadFrom(fullPath);
    }
}
