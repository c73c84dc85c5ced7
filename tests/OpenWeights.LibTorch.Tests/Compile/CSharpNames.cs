using System.Text;
using System.Text.RegularExpressions;
using Microsoft.CodeAnalysis.CSharp;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>Writes the names of a listing as C# has them.</summary>
internal static partial class CSharpNames
{
    /// <summary>An identifier, escaped where it is a keyword.</summary>
    internal static string Identifier(string name) => SyntaxFacts.GetKeywordKind(name) == SyntaxKind.None ? name : "@" + name;

    /// <summary>A type by its full name from the root.</summary>
    internal static string Type(string name) => name == "System.Void" ? "void" : FromRoot().Replace(name, "global::$1.");

    /// <summary>A type whose outermost tuple has named elements.</summary>
    internal static string Type(string name, string[] elements)
    {
        var start = name.IndexOf("System.ValueTuple<", StringComparison.Ordinal);
        if (elements.Length == 0 || start < 0)
        {
            return Type(name);
        }

        var (parts, end) = Arguments(name, start + "System.ValueTuple<".Length);
        if (parts.Count > elements.Length)
        {
            return Type(name);
        }

        var tuple = string.Join(", ", parts.Zip(elements, static (type, element) => $"{Type(type)} {element}"));
        return $"{Type(name[..start])}({tuple}){Type(name[end..])}";
    }

    /// <summary>A name's parts between dots that are outside of angle brackets.</summary>
    internal static List<string> Segments(string name)
    {
        var parts = new List<string>();
        var (depth, start) = (0, 0);
        for (var i = 0; i < name.Length; i++)
        {
            depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
            if (name[i] == '.' && depth == 0)
            {
                parts.Add(name[start..i]);
                start = i + 1;
            }
        }

        parts.Add(name[start..]);
        return parts;
    }

    /// <summary>The type arguments of a name, such as T and TResult of IModule&lt;T,TResult&gt;.</summary>
    internal static List<string> TypeArguments(string name)
    {
        var open = name.IndexOf('<', StringComparison.Ordinal);
        return open < 0 ? [] : Arguments(name, open + 1).Parts;
    }

    /// <summary>Puts arguments in the place of type parameters.</summary>
    internal static string Substitute(string type, IReadOnlyDictionary<string, string> arguments) =>
        arguments.Count == 0 ? type : Word().Replace(type, match => arguments.GetValueOrDefault(match.Value, match.Value));

    /// <summary>A default value as it stands in C#.</summary>
    internal static string Value(string type, string value)
    {
        var plain = type.StartsWith("System.Nullable<", StringComparison.Ordinal) ? type["System.Nullable<".Length..^1] : type;
        return plain switch
        {
            _ when value == "null" => "default",
            "System.Boolean" or "System.String" => value,
            "System.Char" => $"'{value}'",
            "System.Single" => value + "f",
            "System.Double" => value + "d",
            _ when plain.StartsWith("TorchSharp.", StringComparison.Ordinal) => $"({Type(plain)})({value})",
            _ => value,
        };
    }

    // The arguments from a place just behind the opening bracket, and the place just behind the closing one.
    private static (List<string> Parts, int End) Arguments(string name, int at)
    {
        var parts = new List<string>();
        var part = new StringBuilder();
        for (var depth = 1; ; at++)
        {
            depth += name[at] == '<' ? 1 : name[at] == '>' ? -1 : 0;
            if (depth == 0 || (depth == 1 && name[at] == ','))
            {
                parts.Add(part.ToString());
                _ = part.Clear();
                if (depth == 0)
                {
                    return (parts, at + 1);
                }
            }
            else
            {
                _ = part.Append(name[at]);
            }
        }
    }

    [GeneratedRegex(@"(?<![\w.>:])(System|TorchSharp)\.")]
    private static partial Regex FromRoot();

    [GeneratedRegex(@"(?<![\w.])[A-Za-z_]\w*(?![\w.])")]
    private static partial Regex Word();
}
