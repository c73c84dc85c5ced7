namespace OpenWeights.LibTorch.Tests.Api;

/// <summary>Compares types with a listing that they must be a part of.</summary>
internal static class ApiComparison
{
    /// <summary>One line for each type or member that the listing does not have, or has otherwise.</summary>
    internal static IReadOnlyList<string> Differences(IReadOnlyCollection<ListedType> ours, ApiListing theirs)
    {
        var names = ours.Select(static type => type.Name).ToHashSet();
        return [.. ours.OrderBy(static type => type.Name, StringComparer.Ordinal).SelectMany(type => Differences(type, theirs, names))];
    }

    private static IEnumerable<string> Differences(ListedType ours, ApiListing listing, HashSet<string> known)
    {
        if (listing.Find(ours.Name) is not { } theirs)
        {
            yield return $"{ours.Name}: there is no such type";
            yield break;
        }

        if (ours.Kind != theirs.Kind)
        {
            yield return $"{ours.Name} is a {ours.Kind} here and a {theirs.Kind} there";
        }

        foreach (var added in ours.Bases.Except(theirs.Bases))
        {
            yield return $"{ours.Name} derives from {added} here and not there";
        }

        // What this subset leaves out nothing here can derive from.
        foreach (var missing in theirs.Bases.Except(ours.Bases).Where(name => !name.StartsWith("TorchSharp.", StringComparison.Ordinal) || known.Contains(Generic(name, listing))))
        {
            yield return $"{ours.Name} derives from {missing} there and not here";
        }

        var theirMembers = theirs.Members.ToHashSet();
        foreach (var member in ours.Members.Where(member => !theirMembers.Contains(member)))
        {
            var candidates = theirs.Members.Where(other => ListedType.MemberName(other) == ListedType.MemberName(member)).ToArray();
            yield return candidates.Length == 0
                ? $"{ours.Name} has no such member there: {member}"
                : $"{ours.Name} differs: {member}{string.Concat(candidates.Select(static c => $"\n      there: {c}"))}";
        }
    }

    // The type's own line in the listing, whose parameters have other names than the arguments given to a base.
    private static string Generic(string name, ApiListing listing)
    {
        if (listing.Find(name) is not null || !name.EndsWith('>'))
        {
            return name;
        }

        var plain = new ListedType("", name, [], []).PlainName;
        var arity = Arity(name[plain.Length..]);
        return listing.Types.FirstOrDefault(type => type.PlainName == plain && Arity(type.Name[plain.Length..]) == arity)?.Name ?? name;
    }

    private static int Arity(string arguments)
    {
        var (depth, commas) = (0, 0);
        foreach (var letter in arguments)
        {
            depth += letter == '<' ? 1 : letter == '>' ? -1 : 0;
            commas += letter == ',' && depth == 1 ? 1 : 0;
        }

        return arguments.Length == 0 ? 0 : commas + 1;
    }
}
