namespace OpenWeights.Tokenizers;

/// <summary>Makes pre-tokenizers from their JSON: a table of types.</summary>
internal static class PreTokenizerReader
{
    private static readonly Dictionary<string, Func<JsonSection, IEnumerable<PreTokenizer>>> s_types = new()
    {
        ["Sequence"] = s => s["pretokenizers"].Elements().SelectMany(Read),
        ["ByteLevel"] = ReadByteLevel,
        ["Split"] = ReadSplit,
        ["Metaspace"] = ReadMetaspace,
        ["Digits"] = ReadDigits,
        ["Whitespace"] = _ => [new SplitPreTokenizer(new RustWordPattern(), SplitBehavior.Removed, invert: true)],
        ["WhitespaceSplit"] = _ => [WhiteSpace()],
        ["Punctuation"] = s => [Punctuation(Behavior(s["behavior"], SplitBehavior.Isolated))],
        ["BertPreTokenizer"] = _ => [WhiteSpace(), Punctuation(SplitBehavior.Isolated)],
        ["CharDelimiterSplit"] = ReadDelimiter,
        ["Delimiter"] = ReadDelimiter,
        ["FixedLength"] = s => [new FixedLengthPreTokenizer(Math.Max(1, s["length"].IsNull ? 5 : s["length"].Count()))],
    };

    /// <summary>Makes the chain.</summary>
    public static IReadOnlyList<PreTokenizer> Read(JsonSection section)
    {
        if (section.IsNull)
        {
            return [];
        }

        var type = section["type"].Text();
        return s_types.TryGetValue(type, out var make)
            ? [.. make(section)]
            : throw section.Error($"the pre-tokenizer \"{type}\" is not supported; these are: {string.Join(", ", s_types.Keys)}.");
    }

    private static IEnumerable<PreTokenizer> ReadByteLevel(JsonSection section)
    {
        if (section["add_prefix_space"].Flag())
        {
            yield return new PrefixSpacePreTokenizer();
        }

        if (section["use_regex"].Flag(true))
        {
            yield return new SplitPreTokenizer(new Gpt2Pattern(), SplitBehavior.Isolated, invert: false);
        }

        yield return new ByteLevelPreTokenizer();
    }

    private static IEnumerable<PreTokenizer> ReadSplit(JsonSection section)
    {
        var invert = section["invert"].Flag();
        yield return new SplitPreTokenizer(PatternReader.Read(section["pattern"]), Behavior(section["behavior"], null), invert);
    }

    private static IEnumerable<PreTokenizer> ReadMetaspace(JsonSection section)
    {
        var scheme = section["prepend_scheme"].TextOrNull() switch
        {
            null or "always" => PrependScheme.Always,
            "first" => PrependScheme.First,
            "never" => PrependScheme.Never,
            var other => throw section["prepend_scheme"].Error($"\"{other}\" is not supported; always, first and never are."),
        };
        if (section["add_prefix_space"].FlagOrNull() == false)
        {
            if (scheme != PrependScheme.Never && !section["prepend_scheme"].IsNull)
            {
                throw section["add_prefix_space"].Error("contradicts prepend_scheme.");
            }

            scheme = PrependScheme.Never;
        }

        yield return new MetaspacePreTokenizer(section["replacement"].Character().ToString(), scheme, section["split"].Flag(true));
    }

    private static IEnumerable<PreTokenizer> ReadDigits(JsonSection section)
    {
        var behavior = section["individual_digits"].Flag() ? SplitBehavior.Isolated : SplitBehavior.Contiguous;
        yield return new SplitPreTokenizer(new CharacterPattern(WordCharacters.IsNumeric), behavior, invert: false);
    }

    private static IEnumerable<PreTokenizer> ReadDelimiter(JsonSection section)
    {
        var delimiter = section["delimiter"].Character().ToString();
        yield return new SplitPreTokenizer(new LiteralPattern(delimiter), SplitBehavior.Removed, invert: false);
    }

    private static SplitPreTokenizer WhiteSpace() => new(new CharacterPattern(WordCharacters.IsSpace), SplitBehavior.Removed, invert: false);

    private static SplitPreTokenizer Punctuation(SplitBehavior behavior) =>
        new(new CharacterPattern(UnicodeData.Instance.IsPunctuation), behavior, invert: false);

    private static SplitBehavior Behavior(JsonSection section, SplitBehavior? otherwise)
    {
        if (section.IsNull && otherwise is { } given)
        {
            return given;
        }

        var name = section.Text();
        return Enum.TryParse<SplitBehavior>(name, out var behavior) && Enum.IsDefined(behavior) && !char.IsAsciiDigit(name[0])
            ? behavior
            : throw section.Error($"\"{name}\" is not supported; {string.Join(", ", Enum.GetNames<SplitBehavior>())} are.");
    }
}

/// <summary>Makes patterns from their JSON, <c>{"String": ...}</c> or <c>{"Regex": ...}</c>.</summary>
internal static class PatternReader
{
    /// <summary>Makes the pattern.</summary>
    public static TextPattern Read(JsonSection section)
    {
        var literal = section["String"];
        var expression = section["Regex"];
        if (literal.IsNull == expression.IsNull)
        {
            throw section.Error("must be {\"String\": ...} or {\"Regex\": ...}.");
        }

        if (expression.IsNull)
        {
            var text = literal.Text();
            return text.Length == 0 ? throw literal.Error("must not be empty.") : new LiteralPattern(text);
        }

        return (TextPattern?)KnownPatterns.Find(expression.Text()) ?? OnigurumaPattern.Parse(expression.Text(), expression.Error);
    }
}
