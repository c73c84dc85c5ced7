namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>The formats of strings that can be enforced, as patterns.</summary>
internal static class StringFormats
{
    // A year from 1000, in which only leap years have a 29th of February.
    private const string Date = "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
        + "|(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29)";

    private const string Time = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
    private const string Label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
    private const string Byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

    private static readonly Dictionary<string, string> s_patterns = new(StringComparer.Ordinal)
    {
        ["date"] = Date,
        ["time"] = Time,
        ["date-time"] = $"{Date}T{Time}",
        ["uuid"] = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
        ["email"] = "[A-Za-z0-9_+-]+(?:\\.[A-Za-z0-9_+-]+)*@" + $"(?:{ShortLabel}\\.)+[A-Za-z]{{2,24}}",
        ["hostname"] = $"{Label}(?:\\.{Label}){{0,3}}",
        ["ipv4"] = $"{Byte}(?:\\.{Byte}){{3}}",
        ["duration"] = "P(?:[0-9]{1,4}W|(?:[0-9]{1,4}Y(?:[0-9]{1,4}M(?:[0-9]{1,4}D)?)?|[0-9]{1,4}M(?:[0-9]{1,4}D)?|[0-9]{1,4}D)(?:T" + Clock + ")?|T" + Clock + ")",
    };

    private const string ShortLabel = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?";
    private const string Clock = "(?:[0-9]{1,4}H(?:[0-9]{1,4}M(?:[0-9]{1,4}S)?)?|[0-9]{1,4}M(?:[0-9]{1,4}S)?|[0-9]{1,4}S)";

    private static readonly Dictionary<string, CharAutomaton> s_known = new(StringComparer.Ordinal);

    /// <summary>The names of the formats.</summary>
    internal static IEnumerable<string> Names => s_patterns.Keys;

    /// <summary>The texts of a format; null if it is not known.</summary>
    internal static CharAutomaton? Find(string name)
    {
        if (!s_patterns.TryGetValue(name, out var pattern))
        {
            return null;
        }

        lock (s_known)
        {
            return s_known.TryGetValue(name, out var texts) ? texts : s_known[name] = PatternParser.Parse($"^{pattern}$");
        }
    }
}
