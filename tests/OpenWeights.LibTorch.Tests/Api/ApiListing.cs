namespace OpenWeights.LibTorch.Tests.Api;

/// <summary>
/// A listing of an assembly's public and protected surface. A type is a line "T kind Name : base, interfaces"; the lines below it, two
/// spaces in, are its constructors (C), methods (M), properties (P), fields (F) and, of a delegate, its signature (D).
/// </summary>
internal sealed class ApiListing
{
    private readonly Dictionary<string, ListedType> _types = [];

    internal ApiListing(IEnumerable<ListedType> types)
    {
        foreach (var type in types)
        {
            _types.Add(type.Name, type);
        }
    }

    internal IEnumerable<ListedType> Types => _types.Values;

    internal ListedType? Find(string name) => _types.GetValueOrDefault(name);

    internal static ApiListing Parse(IReadOnlyList<string> lines)
    {
        var types = new List<ListedType>();
        for (var i = 0; i < lines.Count;)
        {
            if (!lines[i].StartsWith("T ", StringComparison.Ordinal))
            {
                throw new InvalidDataException($"line {i + 1} of the listing should begin a type: {lines[i]}");
            }

            var first = i + 1;
            var end = first;
            while (end < lines.Count && lines[end].StartsWith("  ", StringComparison.Ordinal))
            {
                end++;
            }

            types.Add(ListedType.Parse(lines[i], [.. lines.Skip(first).Take(end - first).Select(static line => line[2..])]));
            i = end;
        }

        return new ApiListing(types);
    }
}
