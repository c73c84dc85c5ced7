using System.Buffers;

using Microsoft.ML.Tokenizers;

using NUnit.Framework;

using OpenWeights.Tokenizers.MicrosoftML;

namespace OpenWeights.Tokenizers.Tests.MicrosoftML;

/// <summary>The adapter for Microsoft.ML.Tokenizers, with its published package.</summary>
public sealed class MicrosoftTokenizerTests
{
    // Llama 3's cut of a text into words, as its tokenizer.json has it.
    private const string Split = @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    private const string Text = "Hello  world, 👍🏽 naïve\n";

    private static readonly Tokenizer s_ours = Tokenizer.Load(OpenWeights.Testing.SharedFiles.Require("fixtures", "tokenizers", "own", "bytes-llama-3"));
    private static readonly Microsoft.ML.Tokenizers.Tokenizer s_face = new MicrosoftTokenizer(s_ours);

    [Test]
    public void Its_ids_tokens_counts_and_text_are_ours()
    {
        var ids = s_ours.Encode(Text, addSpecialTokens: false);
        Assert.That(s_face.EncodeToIds(Text), Is.EqualTo(ids));
        Assert.That(s_face.EncodeToTokens(Text.AsSpan(), out var normalized).Select(static token => token.Id), Is.EqualTo(ids));
        Assert.That(normalized, Is.Null);
        Assert.That(s_face.CountTokens(Text), Is.EqualTo(ids.Length));
        Assert.That(s_face.Decode(ids), Is.EqualTo(Text));
        Assert.That(s_face.EncodeToTokens("", out _), Is.Empty);
    }

    [Test]
    public void A_text_cut_to_a_number_of_tokens_from_either_end_is_whole_characters()
    {
        var all = s_face.CountTokens(Text);
        for (var most = 1; most <= all + 1; most++)
        {
            var ids = s_face.EncodeToIds(Text, most, out _, out var consumed);
            Assert.That(ids, Has.Count.LessThanOrEqualTo(most));
            Assert.That(s_face.Decode(ids), Is.EqualTo(Text[..consumed]), $"{most} tokens");
            Assert.That(s_face.GetIndexByTokenCount(Text, most, out _, out var count), Is.EqualTo(consumed));
            Assert.That(count, Is.EqualTo(ids.Count));
            var from = s_face.GetIndexByTokenCountFromEnd(Text, most, out _, out var last);
            Assert.That(s_face.Decode(s_face.EncodeToIds(Text).TakeLast(last)), Is.EqualTo(Text[from..]), $"{most} tokens from the end");
        }
    }

    [Test]
    public void A_buffer_too_small_an_unknown_id_and_an_unsupported_wish_are_refused()
    {
        var ids = s_ours.Encode(Text, addSpecialTokens: false);
        Assert.That(s_face.Decode(ids, new char[3], out var consumed, out var written), Is.EqualTo(OperationStatus.DestinationTooSmall));
        Assert.That((consumed, written), Is.EqualTo((0, 0)));
        Assert.That(s_face.Decode(ids, new char[100], out consumed, out written), Is.EqualTo(OperationStatus.Done));
        Assert.That((consumed, written), Is.EqualTo((ids.Length, Text.Length)));
        Assert.That(s_face.Decode([int.MaxValue], new char[9], out _, out _), Is.EqualTo(OperationStatus.InvalidData));
        Assert.That(() => s_face.CountTokens(Text, considerNormalization: false), Throws.TypeOf<NotSupportedException>());
    }

    [Test]
    public void Specials_stand_at_the_edges_of_the_text()
    {
        var face = new MicrosoftTokenizer(s_ours, addSpecialTokens: true, skipSpecialTokens: true);
        var tokens = face.EncodeToTokens("Hi", out _);
        Assert.That(tokens[0], Is.EqualTo(new EncodedToken(1133, "<|begin_of_text|>", 0..0)));
        Assert.That(face.Decode(tokens.Select(static token => token.Id)), Is.EqualTo("Hi"));
    }

    [Test]
    public void A_tokenizer_of_theirs_makes_rows_with_the_ids_and_ranges_of_ours()
    {
        var path = OpenWeights.Testing.SharedFiles.Require("fixtures", "tokenizers", "own", "pieces-model", "tokenizer.model");
        using var file = File.OpenRead(path);
        var foreign = new ForeignTokenizer(LlamaTokenizer.Create(file), new ForeignTokenizerOptions { BosToken = 1, EosToken = 2, AddsBos = true });
        var ours = Tokenizer.Load(path);
        foreach (var add in new[] { false, true })
        {
            Assert.That(foreign.Encode("Hello world, naïve", add), Is.EqualTo(ours.Encode("Hello world, naïve", add)));
        }

        Assert.That(foreign.EncodeWithOffsets("float32 tokens", addSpecialTokens: true).Select(static s => (s.Start, s.End)), Is.EqualTo(new[] { (0, 0), (0, 7), (7, 14) }));
        Assert.That(foreign.Decode([.. ours.Encode("Hello world", addSpecialTokens: true), 2], skipSpecialTokens: true), Is.EqualTo("Hello world"));
    }

    [Test]
    public void A_tiktoken_file_read_by_theirs_makes_rows_with_the_ids_of_ours()
    {
        var path = OpenWeights.Testing.SharedFiles.Require("fixtures", "tokenizers", "own", "ranks", "tokenizer.model");
        using var file = File.OpenRead(path);
        var theirs = TiktokenTokenizer.Create(file, new RegexPreTokenizer(new System.Text.RegularExpressions.Regex(Split), null), null, new Dictionary<string, int> { ["<|begin_of_text|>"] = 1133 });
        var foreign = new ForeignTokenizer(theirs, new ForeignTokenizerOptions { BosToken = 1133, EosToken = 1134, AddsBos = true });
        foreach (var text in new[] { Text, "It's 12345 things,\t\tand more\n\n  ", "日本語のテキスト", "" })
        {
            Assert.That(foreign.Encode(text, addSpecialTokens: true), Is.EqualTo(s_ours.Encode(text, addSpecialTokens: true)), text);
            Assert.That(foreign.Decode(s_ours.Encode(text, addSpecialTokens: true), skipSpecialTokens: true), Is.EqualTo(text));
        }
    }
}
