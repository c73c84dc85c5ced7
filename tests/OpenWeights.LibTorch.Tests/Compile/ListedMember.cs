using System.Text.RegularExpressions;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>A parameter of a listed member.</summary>
/// <param name="Passing">"", or ref, out, in or params with a space after it.</param>
/// <param name="Type">The type's full name.</param>
/// <param name="Name">The parameter's name.</param>
/// <param name="Value">The default value, if there is one.</param>
internal sealed record ListedParameter(string Passing, string Type, string Name, string? Value);

/// <summary>A line of a listed type, taken apart.</summary>
/// <param name="Kind">C, M, P, F or D.</param>
/// <param name="Access">public or protected; empty where the listing does not say.</param>
/// <param name="Modifier">static, abstract, virtual or nothing.</param>
/// <param name="Type">The type it gives; empty for a constructor.</param>
/// <param name="Name">The name without type parameters.</param>
/// <param name="Generic">The type parameters in angle brackets, or nothing.</param>
/// <param name="Parameters">The parameters; null where there is no list of them.</param>
/// <param name="Rest">The accessors of a property, the value of an enum's field.</param>
internal sealed partial record ListedMember(
    char Kind, string Access, string Modifier, string Type, string Name, string Generic, IReadOnlyList<ListedParameter>? Parameters, string Rest)
{
    /// <summary>What overloads differ by, types spelled out.</summary>
    internal string Signature => $"{Name}{Generic.Count(static c => c == ',')}{(Generic.Length == 0 ? "" : "<>")}({string.Join(';', Parameters!.Select(static p => (p.Passing is "params " ? "" : p.Passing) + p.Type))})";

    internal static ListedMember Parse(string line)
    {
        var match = Line().Match(line);
        if (!match.Success)
        {
            throw new InvalidDataException($"a member's line in no known form: {line}");
        }

        string Part(string name) => match.Groups[name].Value;
        return new ListedMember(
            line[0], Part("access").Trim(), Part("modifier").Trim(), Part("type").Trim(), Part("name"), Part("generic"), match.Groups["open"].Success ? ParseParameters(Part("parameters")) : null, Part("rest").Trim());
    }

    private static List<ListedParameter> ParseParameters(string text) => text.Length == 0 ? [] :
        [.. text.Split(", ").Select(static part =>
        {
            var match = Parameter().Match(part);
            return new ListedParameter(match.Groups["passing"].Value, match.Groups["type"].Value, match.Groups["name"].Value, match.Groups["value"].Success ? match.Groups["value"].Value : null);
        })];

    [GeneratedRegex(@"^. (?<access>(public|protected) )?(?<modifier>(static|abstract|virtual) )?(?<type>[^ (]+ )?(?<name>[^ (\[<]*)(?<generic><[^(]*>)?((?<open>[(\[])(?<parameters>.*)[)\]])?(?<rest>.*)$")]
    private static partial Regex Line();

    [GeneratedRegex(@"^(?<passing>(ref|out|in|params) )?(?<type>[^ ]+) (?<name>[^ =]+)(=(?<value>.*))?$")]
    private static partial Regex Parameter();
}
