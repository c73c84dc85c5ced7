using System.Text;
using System.Text.RegularExpressions;
using OpenWeights.LibTorch.Tests.Api;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>
/// Writes C# declarations of every type and member of a listing in the namespaces TorchSharp*, without what they do: what a compiler
/// needs to resolve overloads as it does against TorchSharp itself.
/// </summary>
internal sealed partial class StubSource
{
    /// <summary>A constructor that only the declarations themselves can call takes this.</summary>
    private const string Chain = "global::TorchSharp.Chain";

    private readonly ApiListing _listing;
    private readonly StringBuilder _text = new();
    private readonly Dictionary<string, List<ListedType>> _nested = [];
    private readonly InheritedMembers _inherited;

    private StubSource(ApiListing listing)
    {
        _listing = listing;
        _inherited = new InheritedMembers(listing);
    }

    internal static string Write(ApiListing listing) => new StubSource(listing).WriteAll();

    // Types of packages that TorchSharp brings along, and one that is protected but not in the listing.
    private static bool MentionsOthers(string text) => Others().IsMatch(text);

    private string WriteAll()
    {
        _ = _text.AppendLine("namespace TorchSharp { internal struct Chain { } }");
        foreach (var type in _listing.Types.Where(static type => type.Name.StartsWith("TorchSharp.", StringComparison.Ordinal)))
        {
            var segments = CSharpNames.Segments(type.Name);
            var outer = string.Join('.', segments[..^1]);
            var key = _listing.Find(outer) is null ? "namespace " + outer : outer;
            if (!_nested.TryGetValue(key, out var list))
            {
                _nested[key] = list = [];
            }

            list.Add(type);
        }

        foreach (var (space, types) in _nested.Where(static pair => pair.Key.StartsWith("namespace ", StringComparison.Ordinal)))
        {
            _ = _text.AppendLine(space).AppendLine("{");
            types.ForEach(WriteType);
            _ = _text.AppendLine("}");
        }

        return _text.ToString();
    }

    private void WriteType(ListedType type)
    {
        var name = CSharpNames.Segments(type.Name)[^1];
        switch (type.Kind)
        {
            case "enum":
                _ = _text.AppendLine($"public enum {name} {{ {string.Join(", ", type.Members.Select(static m => m[2..].Split(' ')).Select(static m => $"{CSharpNames.Identifier(m[0])} = {m[2]}"))} }}");
                return;
            case "delegate":
                var signature = ListedMember.Parse(type.Members[0]);
                _ = _text.AppendLine($"public delegate {CSharpNames.Type(signature.Type)} {name}({Parameters(signature.Parameters!)});");
                return;
        }

        var words = type.Kind.Split(' ');
        var bases = type.Bases.Where(static b => !MentionsOthers(b)).Select(CSharpNames.Type).ToArray();
        _ = _text.AppendLine(
            $"public {string.Concat(words[..^1].Select(static w => w + " "))}partial {words[^1]} {name}{(bases.Length == 0 ? "" : " : " + string.Join(", ", bases))} {SourceFacts.Constraint(type)}").AppendLine("{");
        WriteMembers(type);
        _nested.GetValueOrDefault(type.Name, []).ForEach(WriteType);
        _ = _text.AppendLine("}");
    }

    private void WriteMembers(ListedType type)
    {
        var ownName = CSharpNames.Segments(type.PlainName)[^1];
        var chain = _inherited.HasListedBase(type) ? $" : base(default({Chain}))" : "";
        if (type.Kind.EndsWith("class", StringComparison.Ordinal) && type.Kind != "static class")
        {
            _ = _text.AppendLine($"internal {ownName}({Chain} _){chain} {{ }}");
        }

        foreach (var member in type.Members.Where(static member => !MentionsOthers(member)).Select(ListedMember.Parse))
        {
            var line = member.Kind switch
            {
                'C' => $"{member.Access} {ownName}({Parameters(member.Parameters!)}){chain} => throw null;",
                'F' => Field(type, member),
                'P' => Property(type, member),
                'M' when member.Name is "Finalize" or "op_MinusMinusGreater" => "",
                'M' when member.Name.StartsWith("op_", StringComparison.Ordinal) => Operator(member),
                _ => Method(type, member),
            };
            _ = _text.AppendLine(line);
        }
    }

    private static string Field(ListedType type, ListedMember member)
    {
        var isStatic = member.Modifier == "static" || type.Kind == "static class";
        var access = !isStatic && type.Kind != "struct" && SourceFacts.IsProtectedField(type, member.Name) ? "protected" : "public";
        return $"{access} {(isStatic ? "static " : "")}{CSharpNames.Type(member.Type)} {CSharpNames.Identifier(member.Name)};";
    }

    private string Property(ListedType type, ListedMember member)
    {
        var accessors = $"{{ {(member.Rest.Contains("get;", StringComparison.Ordinal) ? "get => throw null; " : "")}{(member.Rest.Contains("set;", StringComparison.Ordinal) ? "set { } " : "")}}}";
        var modifier = SourceFacts.PropertyModifier(type.PlainName, member.Name);
        var inherited = _inherited.Property(type, member.Name);
        modifier = modifier.Length > 0 ? modifier : member.Modifier == "static" ? "static " : inherited is "abstract " or "virtual " ? "override " : inherited is not null ? "new " : "";
        if (type.Kind == "interface" || modifier == "abstract ")
        {
            accessors = member.Rest;
        }

        var access = type.Kind == "interface" ? "" : member.Access + " ";
        return member.Parameters is null
            ? $"{access}{modifier}{CSharpNames.Type(member.Type)} {CSharpNames.Identifier(member.Name)} {accessors}"
            : $"{(member.Name == "Item" ? "" : $"[global::System.Runtime.CompilerServices.IndexerName(\"{member.Name}\")] ")}{access}{modifier}{CSharpNames.Type(member.Type)} this[{Parameters(member.Parameters)}] {accessors}";
    }

    private static string Operator(ListedMember member)
    {
        var parameters = Parameters(member.Parameters!);
        var type = CSharpNames.Type(member.Type);
        var sign = member.Name switch
        {
            "op_Addition" => "+",
            "op_Subtraction" or "op_UnaryNegation" => "-",
            "op_Multiply" => "*",
            "op_Division" => "/",
            "op_Modulus" => "%",
            "op_BitwiseAnd" => "&",
            "op_BitwiseOr" => "|",
            "op_ExclusiveOr" => "^",
            "op_OnesComplement" => "~",
            "op_Equality" => "==",
            "op_Inequality" => "!=",
            "op_GreaterThan" => ">",
            "op_GreaterThanOrEqual" => ">=",
            "op_LessThan" => "<",
            "op_LessThanOrEqual" => "<=",
            _ => null,
        };
        return sign is not null
            ? $"public static {type} operator {sign}({parameters}) => throw null;"
            : $"public static {(member.Name == "op_Implicit" ? "implicit" : "explicit")} operator {type}({parameters}) => throw null;";
    }

    private string Method(ListedType type, ListedMember member)
    {
        var generic = member.Generic;
        var text = Parameters(member.Parameters!);
        var listed = string.Join(", ", member.Parameters!.Select(static p => $"{p.Passing}{p.Type} {p.Name}"));
        var result = CSharpNames.Type(member.Type, SourceFacts.TupleNames(type.PlainName, member.Name));
        var self = SourceFacts.IsExtension(type, listed) ? "this " : "";
        if (type.Kind == "interface")
        {
            return $"{result} {CSharpNames.Identifier(member.Name)}{generic}({text});";
        }

        var inherited = _inherited.Method(type, member);
        var modifier = (member.Modifier, inherited) switch
        {
            ("static", _) => "static ",
            ("abstract", null) => "abstract ",
            ("abstract", _) => "abstract override ",
            ("virtual", not null) => "override ",
            ("virtual", null) when type.Kind is "sealed class" or "struct" => "",
            ("virtual", null) => "virtual ",
            (_, "abstract ") => "sealed override ",
            (_, not null) => "new ",
            _ => "",
        };
        var isOverride = modifier.Contains("override", StringComparison.Ordinal);
        var constraint = generic.Length > 0 && !isOverride ? SourceFacts.Constraint(type, member.Name + generic) : "";
        var body = member.Modifier == "abstract" ? ";" : " => throw null;";
        return $"{member.Access} {modifier}{result} {CSharpNames.Identifier(member.Name)}{generic}({self}{text}) {constraint}{body}";
    }

    private static string Parameters(IReadOnlyList<ListedParameter> parameters)
    {
        var lastRequired = parameters.Count - 1;
        while (lastRequired >= 0 && (parameters[lastRequired].Value is not null || parameters[lastRequired].Passing == "params "))
        {
            lastRequired--;
        }

        // A default ahead of a required parameter has no spelling in C# but its attribute.
        return string.Join(", ", parameters.Select((p, i) => p.Value is null
            ? $"{p.Passing}{CSharpNames.Type(p.Type)} {CSharpNames.Identifier(p.Name)}"
            : i < lastRequired ? $"[global::System.Runtime.InteropServices.Optional] {CSharpNames.Type(p.Type)} {CSharpNames.Identifier(p.Name)}"
            : $"{CSharpNames.Type(p.Type)} {CSharpNames.Identifier(p.Name)} = {CSharpNames.Value(p.Type, p.Value)}"));
    }

    [GeneratedRegex(@"(?<![\w.])(Google|Tensorboard|SkiaSharp|ICSharpCode)\.|DataIterator\.HType")]
    private static partial Regex Others();
}
