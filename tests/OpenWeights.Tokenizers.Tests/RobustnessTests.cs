using System.Text;

using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Hard input: long, malformed, from many threads.</summary>
public sealed class RobustnessTests
{
    private static readonly string[] s_bases = ["bytes", "pieces", "unigram"];

    private static IEnumerable<TestCaseData> LongTexts()
    {
        const int Length = 300_000;
        var random = new Random(1);
        string Letters(string alphabet) => string.Create(Length, alphabet, (span, a) => random.GetItems(a, span));
        (string Name, string Text)[] texts =
        [
            ("one letter", new string('a', Length)),
            ("letters without a space", Letters("abcdefghijklmnopqrstuvwxyz")),
            ("spaces", new string(' ', Length)),
            ("line breaks", new string('\n', Length)),
            ("one ideograph", new string('好', Length)),
            ("digits", Letters("0123456789")),
            ("marks on one letter", "a" + new string('\u0301', Length)),
            ("unpaired surrogates", new string('\uD800', Length)),
            ("NULs", new string('\0', Length)),
            ("beginnings of a special token", new StringBuilder().Insert(0, "<|en", Length / 4).ToString()),
        ];
        return s_bases.SelectMany(b => texts.Select(t => new TestCaseData(b, t.Text).SetArgDisplayNames(b, t.Name)));
    }

    /// <summary>A fraction of a second each; quadratic work would take many minutes.</summary>
    [TestCaseSource(nameof(LongTexts))]
    [MaxTime(60_000)]
    public void A_long_text_takes_linear_time(string name, string text)
    {
        var json = SmallTokenizers.Json(name);
        json["normalizer"] ??= System.Text.Json.Nodes.JsonNode.Parse("""{"type": "NFKC"}""");
        var tokenizer = SmallTokenizers.Load(json);
        var ids = tokenizer.Encode(text, addSpecialTokens: false);
        Assert.That(ids, Is.Not.Empty);
        Assert.That(tokenizer.EncodeWithOffsets(text, addSpecialTokens: false)[^1].End, Is.EqualTo(text.Length));
        Assert.That(tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: false), Is.Not.Empty);
    }

    /// <summary>Hugging Face's library gives one of them by chance, another in the next run; here it is always the same.</summary>
    [Test]
    public void Of_added_tokens_that_are_one_once_normalized_the_last_is_found()
    {
        var json = SmallTokenizers.Json("bytes");
        json["normalizer"] = System.Text.Json.Nodes.JsonNode.Parse("""{"type": "Lowercase"}""");
        AddTokens(json, "<One>", "<ONE>");
        var tokenizer = SmallTokenizers.Load(json);
        Assert.That(tokenizer.Encode("<one>", addSpecialTokens: false), Is.EqualTo(new[] { tokenizer.TokenToId("<ONE>")!.Value }));
    }

    /// <summary>A fraction of a second; going through the same white space for every token would take minutes.</summary>
    [Test]
    [MaxTime(60_000)]
    public void Tokens_of_white_space_that_strip_white_space_take_linear_time()
    {
        var json = SmallTokenizers.Json("bytes");
        AddTokens(json, "\n");
        var added = json["added_tokens"]!.AsArray()[^1]!;
        (added["lstrip"], added["rstrip"], added["normalized"]) = (true, true, false);
        var ids = SmallTokenizers.Load(json).Encode(new string('\n', 1_000_000), addSpecialTokens: false);
        Assert.That(ids, Is.EqualTo(new[] { added["id"]!.GetValue<int>() }));
    }

    private static void AddTokens(System.Text.Json.Nodes.JsonObject json, params string[] contents)
    {
        var size = SmallTokenizers.Load(json).VocabularySize;
        foreach (var content in contents)
        {
            json["added_tokens"]!.AsArray().Add(new System.Text.Json.Nodes.JsonObject
            {
                ["id"] = size++,
                ["content"] = content,
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = true,
                ["special"] = false,
            });
        }
    }

    [Test]
    [MaxTime(60_000)]
    public void A_general_expression_takes_linear_time_on_a_long_run_of_spaces()
    {
        var pattern = OnigurumaPattern.Parse(@"\s*[\r\n]+|\s+(?!\S)|\s+|\S+", what => new InvalidDataException(what));
        var matches = new List<PatternMatch>();
        pattern.FindMatches(new string(' ', 1_000_000) + "x", matches);
        Assert.That(matches, Has.Count.EqualTo(3));
    }

    [TestCaseSource(nameof(s_bases))]
    public void An_unpaired_surrogate_counts_as_the_replacement_character(string name)
    {
        var tokenizer = SmallTokenizers.Load(name);
        foreach (var text in new[] { "a\uD83Db", "\uDE00", "x\uD83D", "\uDE00\uD83D", "😀\uD83D" })
        {
            var wellFormed = Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));
            Assert.That(tokenizer.EncodeWithOffsets(text, addSpecialTokens: true), Is.EqualTo(tokenizer.EncodeWithOffsets(wellFormed, addSpecialTokens: true)));
        }
    }

    [TestCaseSource(nameof(s_bases))]
    public void Threads_that_share_a_tokenizer_get_what_one_gets(string name)
    {
        var tokenizer = SmallTokenizers.Load(name);
        var random = new Random(4);
        var texts = Enumerable.Range(0, 400).Select(_ => RandomText.Make(random, 30)).ToArray();
        var wanted = texts.Select(t => Encode(tokenizer, t)).ToArray();
        _ = Parallel.For(0, 2000, i =>
        {
            var got = Encode(tokenizer, texts[i % texts.Length]);
            Assert.That(got, Is.EqualTo(wanted[i % texts.Length]));
        });
    }

    [Test]
    public void A_text_of_more_words_than_the_cache_keeps_is_encoded_alike_twice()
    {
        var tokenizer = SmallTokenizers.Load("bytes");
        var text = string.Join(' ', Enumerable.Range(0, 300_000).Select(i => Convert.ToString(i * 7919L, 16)));
        var first = tokenizer.Encode(text, addSpecialTokens: false);
        Assert.That(tokenizer.Encode(text, addSpecialTokens: false), Is.EqualTo(first));
        Assert.That(tokenizer.Decode(first.AsSpan(), skipSpecialTokens: false), Is.EqualTo(text));
    }

    [TestCase("own/bytes-llama-3")]
    [TestCase("own/bytes-qwen-2")]
    [TestCase("llama-3")]
    [TestCase("qwen3")]
    public void Text_of_any_kind_survives_a_byte_level_tokenizer(string name)
    {
        var tokenizer = Tokenizer.Load(SharedFiles.Require(["fixtures", "tokenizers", .. name.Split('/'), "tokenizer.json"]));
        var random = new Random(6);
        for (var i = 0; i < 500; i++)
        {
            var text = WellFormedText.Of(RandomText.MakeRaw(random, 60)).ToString();
            text = name is "qwen3" or "own/bytes-qwen-2" ? new NormalizerChain([NormalizerReader.Nfc]).Apply(text) : text;
            Assert.That(tokenizer.Decode(tokenizer.Encode(text, addSpecialTokens: false).AsSpan(), skipSpecialTokens: false), Is.EqualTo(text));
        }
    }

    private static int[] Encode(Tokenizer tokenizer, string text) => tokenizer.Encode(text, addSpecialTokens: true);
}
