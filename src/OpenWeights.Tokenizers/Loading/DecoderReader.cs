namespace OpenWeights.Tokenizers;

/// <summary>Makes decoders from their JSON: a table of types.</summary>
internal static class DecoderReader
{
    private static readonly Dictionary<string, Func<JsonSection, IEnumerable<TokenDecoder>>> s_types = new()
    {
        ["Sequence"] = s => s["decoders"].Elements().SelectMany(d => Read(d) ?? throw d.Error("must be a decoder.")),
        ["ByteLevel"] = _ => [new ByteLevelDecoder()],
        ["ByteFallback"] = _ => [new ByteFallbackDecoder()],
        ["Fuse"] = _ => [new FuseDecoder()],
        ["Strip"] = s => [new StripDecoder(s["content"].Character(), s["start"].Count(), s["stop"].Count())],
        ["Replace"] = ReadReplace,
        ["Metaspace"] = ReadMetaspace,
        ["WordPiece"] = s => [WordPieceDecoders.WordPiece(s["prefix"].Text(), s["cleanup"].Flag())],
        ["BPEDecoder"] = s => [new SuffixDecoder(s["suffix"].Text())],
        ["CTC"] = s => [new CtcDecoder(s["pad_token"].Text(), s["word_delimiter_token"].Text(), s["cleanup"].Flag())],
    };

    /// <summary>Creates the chain; null if absent.</summary>
    public static IReadOnlyList<TokenDecoder>? Read(JsonSection section)
    {
        if (section.IsNull)
        {
            return null;
        }

        var type = section["type"].Text();
        return s_types.TryGetValue(type, out var make)
            ? [.. make(section)]
            : throw section.Error($"the decoder \"{type}\" is not supported; these are: {string.Join(", ", s_types.Keys)}.");
    }

    private static IEnumerable<TokenDecoder> ReadReplace(JsonSection section)
    {
        var pattern = PatternReader.Read(section["pattern"]);
        var content = section["content"].Text();
        yield return new MapDecoder((token, _) => ReplaceAll(token, pattern, content));
    }

    private static string ReplaceAll(string token, TextPattern pattern, string content)
    {
        if (pattern is LiteralPattern literal)
        {
            return token.Replace(literal.Literal, content, StringComparison.Ordinal);
        }

        var matches = new List<PatternMatch>();
        pattern.FindMatches(token, matches);
        return string.Concat(matches.Select(m => m.IsMatch ? content : token[m.Start..m.End]));
    }

    private static IEnumerable<TokenDecoder> ReadMetaspace(JsonSection section)
    {
        var mark = section["replacement"].Character().ToString();
        var drops = section["prepend_scheme"].TextOrNull() is not "never" && section["add_prefix_space"].FlagOrNull() is not false;
        yield return new MapDecoder((token, index) => token.Replace(mark, index == 0 && drops ? "" : " ", StringComparison.Ordinal));
    }
}
