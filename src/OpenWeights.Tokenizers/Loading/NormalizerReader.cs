namespace OpenWeights.Tokenizers;

/// <summary>Makes normalizers from their JSON: a table of types.</summary>
internal static class NormalizerReader
{
    private static readonly UnicodeForm s_nfd = new(compatibility: false, composes: false);
    private static readonly UnicodeForm s_nfkc = new(compatibility: true, composes: true);
    private static readonly UnicodeForm s_nfkd = new(compatibility: true, composes: false);

    /// <summary>"NFC".</summary>
    public static Normalizer Nfc { get; } = new UnicodeNormalizer(new UnicodeForm(compatibility: false, composes: true));

    private static readonly Dictionary<string, Func<JsonSection, IEnumerable<Normalizer>>> s_types = new()
    {
        ["Sequence"] = s => s["normalizers"].Elements().SelectMany(Read),
        ["Replace"] = s => [new ReplaceNormalizer(PatternReader.Read(s["pattern"]), s["content"].Text())],
        ["NFC"] = _ => [Nfc],
        ["NFD"] = _ => [new UnicodeNormalizer(s_nfd)],
        ["NFKC"] = _ => [new UnicodeNormalizer(s_nfkc)],
        ["NFKD"] = _ => [new UnicodeNormalizer(s_nfkd)],
        ["Lowercase"] = _ => [new LowercaseNormalizer()],
        ["Strip"] = s => [new StripNormalizer(s["strip_left"].Flag(), s["strip_right"].Flag())],
        ["StripAccents"] = _ => [FilterNormalizer.StripAccents],
        ["Nmt"] = _ => [FilterNormalizer.Nmt],
        ["Precompiled"] = ReadPrecompiled,
        ["ByteLevel"] = _ => [new ByteLevelNormalizer()],
        ["Prepend"] = s => [new PrependNormalizer(s["prepend"].Text())],
    };

    /// <summary>Makes the chain.</summary>
    public static IReadOnlyList<Normalizer> Read(JsonSection section)
    {
        if (section.IsNull)
        {
            return [];
        }

        var type = section["type"].Text();
        return s_types.TryGetValue(type, out var make)
            ? [.. make(section)]
            : throw section.Error($"the normalizer \"{type}\" is not supported; these are: {string.Join(", ", s_types.Keys)}.");
    }

    private static IEnumerable<Normalizer> ReadPrecompiled(JsonSection section)
    {
        var text = section["precompiled_charsmap"];
        var bytes = new byte[text.Text().Length];
        if (!Convert.TryFromBase64String(text.Text(), bytes, out var count) || CharacterMap.TryRead(bytes.AsSpan(0, count)) is not { } map)
        {
            throw text.Error("is not a SentencePiece character map in base64.");
        }

        yield return new PrecompiledNormalizer(map);
    }
}
