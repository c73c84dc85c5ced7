using System.Text;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using OpenWeights.LibTorch.Tests.Api;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>An assembly named TorchSharp that declares what a listing has, in memory.</summary>
internal static class StubCompilation
{
    internal static CSharpCompilation Create(ApiListing listing, CompilerInputs inputs)
    {
        var declared = CSharpCompilation.Create(
            "TorchSharp",
            [Parse(StubSource.Write(listing), "TorchSharp.cs")],
            inputs.References,
            new CSharpCompilationOptions(OutputKind.DynamicallyLinkedLibrary, allowUnsafe: true));
        return declared.AddSyntaxTrees(Parse(ExplicitImplementations(declared), "TorchSharp.Interfaces.cs"));
    }

    private static SyntaxTree Parse(string text, string path) => CSharpSyntaxTree.ParseText(text, CompilerInputs.ParseOptions, path, Encoding.UTF8);

    // A listing has no explicit implementations of interfaces: they are private. Here they are made for whatever is not implemented.
    private static string ExplicitImplementations(CSharpCompilation compilation)
    {
        var text = new StringBuilder();
        foreach (var type in Types(compilation.Assembly.GlobalNamespace).Where(static t => t.TypeKind is TypeKind.Class or TypeKind.Struct))
        {
            var missing = type.AllInterfaces
                .SelectMany(static i => i.GetMembers())
                .Where(member => member is { IsAbstract: true, IsStatic: false } and not IMethodSymbol { AssociatedSymbol: not null } && type.FindImplementationForInterfaceMember(member) is null)
                .Select(Implementation)
                .ToArray();
            if (missing.Length > 0)
            {
                Wrap(text, type, missing);
            }
        }

        return text.ToString();
    }

    private static string Implementation(ISymbol member)
    {
        var of = Name(member.ContainingType);
        return member switch
        {
            IPropertySymbol { IsIndexer: true } p => $"{Name(p.Type)} {of}.this[{Parameters(p.Parameters)}] {Accessors(p)}",
            IPropertySymbol p => $"{Name(p.Type)} {of}.{CSharpNames.Identifier(p.Name)} {Accessors(p)}",
            IMethodSymbol m => $"{Name(m.ReturnType)} {of}.{CSharpNames.Identifier(m.Name)}({Parameters(m.Parameters)}) => throw null;",
            _ => throw new InvalidOperationException($"no way to implement {member}"),
        };
    }

    private static string Accessors(IPropertySymbol property) =>
        $"{{ {(property.GetMethod is null ? "" : "get => throw null; ")}{(property.SetMethod is null ? "" : "set { } ")}}}";

    private static string Parameters(IEnumerable<IParameterSymbol> parameters) => string.Join(", ", parameters.Select(static p =>
        $"{(p.RefKind == RefKind.Out ? "out " : p.RefKind == RefKind.Ref ? "ref " : "")}{Name(p.Type)} {CSharpNames.Identifier(p.Name)}"));

    private static string Name(ITypeSymbol type) => type.ToDisplayString(SymbolDisplayFormat.FullyQualifiedFormat);

    private static void Wrap(StringBuilder text, INamedTypeSymbol type, IEnumerable<string> members)
    {
        var outer = new List<INamedTypeSymbol>();
        for (var at = type; at is not null; at = at.ContainingType)
        {
            outer.Insert(0, at);
        }

        _ = text.AppendLine($"namespace {type.ContainingNamespace.ToDisplayString()} {{");
        foreach (var part in outer)
        {
            var parameters = part.TypeParameters.Length == 0 ? "" : $"<{string.Join(',', part.TypeParameters.Select(static p => p.Name))}>";
            _ = text.AppendLine($"partial {(part.TypeKind == TypeKind.Struct ? "struct" : "class")} {part.Name}{parameters} {{");
        }

        foreach (var member in members)
        {
            _ = text.AppendLine(member);
        }

        _ = text.AppendLine(new string('}', outer.Count + 1));
    }

    private static IEnumerable<INamedTypeSymbol> Types(INamespaceOrTypeSymbol symbol) => symbol.GetMembers().OfType<INamespaceOrTypeSymbol>()
        .SelectMany(static member => member is INamedTypeSymbol type ? Types(type).Prepend(type) : Types(member));
}
