using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;
using Microsoft.CodeAnalysis.Text;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>Which of TorchSharp's members each expression of some source means.</summary>
internal sealed class Bindings(Compilation compilation)
{
    // A member by its type, name and parameters' types: what tells overloads apart.
    private static readonly SymbolDisplayFormat s_format = new(
        typeQualificationStyle: SymbolDisplayTypeQualificationStyle.NameAndContainingTypesAndNamespaces,
        genericsOptions: SymbolDisplayGenericsOptions.IncludeTypeParameters,
        memberOptions: SymbolDisplayMemberOptions.IncludeContainingType | SymbolDisplayMemberOptions.IncludeParameters | SymbolDisplayMemberOptions.IncludeExplicitInterface,
        parameterOptions: SymbolDisplayParameterOptions.IncludeType | SymbolDisplayParameterOptions.IncludeParamsRefOut,
        miscellaneousOptions: SymbolDisplayMiscellaneousOptions.UseSpecialTypes);

    private readonly Dictionary<string, Dictionary<(TextSpan Span, SyntaxKind Kind, bool Converted), string>> _found = compilation.SyntaxTrees
        .Where(static tree => tree.ToString().Contains("TorchSharp", StringComparison.Ordinal))
        .ToDictionary(static tree => tree.FilePath, tree => Found(compilation, tree));

    /// <summary>Every member of TorchSharp that the source means, by its type and name.</summary>
    internal IEnumerable<string> Members => _found.Values.SelectMany(static found => found.Values).Select(static member => member.Split('(')[0]).Distinct();

    /// <summary>A line for each expression that means one member here and another there. Both compilations have the same source.</summary>
    internal static IEnumerable<string> Differences(Bindings here, Bindings there)
    {
        foreach (var (file, ours) in here._found)
        {
            var theirs = there._found[file];
            foreach (var at in ours.Keys.Union(theirs.Keys).OrderBy(static at => at.Span))
            {
                var (member, other) = (ours.GetValueOrDefault(at), theirs.GetValueOrDefault(at));
                if (other != member)
                {
                    var position = here.Position(file, at.Span);
                    yield return $"{Path.GetFileName(file)}({position.Line + 1},{position.Character + 1}) is {member ?? "no member of TorchSharp"} here and {other ?? "none"} there";
                }
            }
        }
    }

    /// <summary>Every method, property, field and operator that an assembly shows in the namespace, by its type and name.</summary>
    internal IEnumerable<string> Shown(MetadataReference assembly)
    {
        var symbol = (IAssemblySymbol)compilation.GetAssemblyOrModuleSymbol(assembly)!;
        return Types(symbol.GlobalNamespace.GetNamespaceMembers().Single(static space => space.Name == "TorchSharp"))
            .Where(static type => type.DeclaredAccessibility == Accessibility.Public && type.TypeKind is not (TypeKind.Enum or TypeKind.Interface))
            .SelectMany(static type => type.GetMembers())
            .Where(static member => member is { DeclaredAccessibility: Accessibility.Public, IsOverride: false, IsAbstract: false, IsImplicitlyDeclared: false, Name: not "Dispose" }
                && member is IPropertySymbol or IFieldSymbol or IMethodSymbol { MethodKind: MethodKind.Ordinary or MethodKind.UserDefinedOperator or MethodKind.Conversion })
            .Select(static member => member.ToDisplayString(s_format).Split('(')[0]).Distinct();
    }

    private LinePosition Position(string file, TextSpan span) => compilation.SyntaxTrees.First(tree => tree.FilePath == file).GetLineSpan(span).StartLinePosition;

    private static IEnumerable<INamedTypeSymbol> Types(INamespaceOrTypeSymbol symbol) => symbol.GetMembers().OfType<INamespaceOrTypeSymbol>()
        .SelectMany(static member => member is INamedTypeSymbol type ? Types(type).Prepend(type) : Types(member));

    private static Dictionary<(TextSpan Span, SyntaxKind Kind, bool Converted), string> Found(Compilation compilation, SyntaxTree tree)
    {
        var model = compilation.GetSemanticModel(tree);
        var found = new Dictionary<(TextSpan, SyntaxKind, bool), string>();
        foreach (var expression in tree.GetRoot().DescendantNodes().OfType<ExpressionSyntax>())
        {
            // A call's member is told by the name in it; a literal has none, but may be converted.
            if (expression is not (InvocationExpressionSyntax or MemberAccessExpressionSyntax or LiteralExpressionSyntax or TypeSyntax { Parent: TypeArgumentListSyntax or ObjectCreationExpressionSyntax }))
            {
                Add(model.GetSymbolInfo(expression).Symbol, expression, false);
            }

            if (expression.Parent is not (MemberAccessExpressionSyntax or InvocationExpressionSyntax or ExpressionStatementSyntax) and not TypeSyntax)
            {
                Add(model.GetConversion(expression).MethodSymbol, expression, true);
            }
        }

        return found;

        void Add(ISymbol? symbol, ExpressionSyntax expression, bool converted)
        {
            if (symbol is not (null or INamespaceOrTypeSymbol) && symbol.ContainingNamespace?.ToDisplayString().StartsWith("TorchSharp", StringComparison.Ordinal) == true)
            {
                found[(expression.Span, expression.Kind(), converted)] = (symbol is IMethodSymbol { ReducedFrom: { } extension } ? extension : symbol.OriginalDefinition).ToDisplayString(s_format);
            }
        }
    }
}
