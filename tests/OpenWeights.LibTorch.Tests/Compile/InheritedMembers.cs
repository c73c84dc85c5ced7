using OpenWeights.LibTorch.Tests.Api;

namespace OpenWeights.LibTorch.Tests.Compile;

/// <summary>Finds what a listed type inherits from the listed types it derives from, with their type parameters filled in.</summary>
internal sealed class InheritedMembers(ApiListing listing)
{
    private static readonly string[] s_ofObject = ["Equals0(System.Object)", "GetHashCode0()", "ToString0()"];

    private readonly Dictionary<(string, int), ListedType> _definitions = listing.Types
        .ToDictionary(static type => (type.PlainName, CSharpNames.TypeArguments(type.Name[type.PlainName.Length..]).Count));

    internal bool HasListedBase(ListedType type) => Base(type) is not null;

    /// <summary>"abstract " or "virtual " where a base has a method of the signature that can be overridden; null where none has.</summary>
    internal string? Method(ListedType type, ListedMember method)
    {
        for (var at = Base(type); at is { } found; at = Base(found.Type, found.Arguments))
        {
            foreach (var line in found.Type.Members.Where(static line => line[0] == 'M'))
            {
                var member = ListedMember.Parse(line);
                if (member.Modifier is "abstract" or "virtual" && member.Name == method.Name && Signature(member, found.Arguments) == method.Signature)
                {
                    return CSharpNames.Substitute(member.Type, found.Arguments) == method.Type ? member.Modifier + " " : null;
                }
            }
        }

        var fromOutside = type.Bases.Any(static b => b.StartsWith("System.Collections.Generic.EqualityComparer<", StringComparison.Ordinal)) && method.Name is "Equals" or "GetHashCode";
        return s_ofObject.Contains(method.Signature) || fromOutside ? "virtual " : null;
    }

    /// <summary>How a base has a property of the name: its modifier with a space after it, or nothing; null where none has it.</summary>
    internal string? Property(ListedType type, string name)
    {
        for (var at = Base(type); at is { } found; at = Base(found.Type, found.Arguments))
        {
            if (found.Type.Members.Any(line => line[0] == 'P' && ListedMember.Parse(line).Name == name))
            {
                return SourceFacts.PropertyModifier(found.Type.PlainName, name);
            }
        }

        return null;
    }

    private static string Signature(ListedMember member, IReadOnlyDictionary<string, string> arguments) =>
        (member with { Parameters = [.. member.Parameters!.Select(p => p with { Type = CSharpNames.Substitute(p.Type, arguments) })] }).Signature;

    private (ListedType Type, IReadOnlyDictionary<string, string> Arguments)? Base(ListedType type, IReadOnlyDictionary<string, string>? arguments = null)
    {
        if (type.Bases.Count == 0 || type.Kind == "interface")
        {
            return null;
        }

        var name = arguments is null ? type.Bases[0] : CSharpNames.Substitute(type.Bases[0], arguments);
        var plain = new ListedType("", name, [], []).PlainName;
        var given = CSharpNames.TypeArguments(name[plain.Length..]);
        if (!_definitions.TryGetValue((plain, given.Count), out var found) || found.Kind == "interface")
        {
            return null;
        }

        var parameters = CSharpNames.TypeArguments(found.Name[found.PlainName.Length..]);
        return (found, parameters.Zip(given).ToDictionary(static pair => pair.First, static pair => pair.Second));
    }
}
