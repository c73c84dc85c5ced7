using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Which characters a token stands for.</summary>
public sealed class OffsetTests
{
    [TestCase("own/bytes-llama-3")]
    [TestCase("own/bytes-qwen-2")]
    [TestCase("own/pieces")]
    [TestCase("llama-3")]
    [TestCase("qwen3")]
    [TestCase("tinyllama-1.1b-chat")]
    [TestCase("mistral-7b-v0.1")]
    [TestCase("phi-3-mini")]
    public void Ranges_go_forward_without_gaps_from_the_texts_start_to_its_end(string name)
    {
        var tokenizer = Tokenizer.Load(SharedFiles.Require(["fixtures", "tokenizers", .. name.Split('/'), "tokenizer.json"]));
        var random = new Random(5);
        for (var i = 0; i < 500; i++)
        {
            // Where the normalizer puts marks into another order (NFC) ranges may go back, so those stay out of this test's text.
            var text = RandomText.Make(random, 12).Replace("\u0301", "", StringComparison.Ordinal).Replace("\u0323", "", StringComparison.Ordinal);
            var end = 0;
            foreach (var span in tokenizer.EncodeWithOffsets(text, addSpecialTokens: false))
            {
                Assert.That(span.Start, Is.LessThanOrEqualTo(end), () => $"a gap in {GoldenCase.Show(text)}");
                Assert.That(span.End, Is.GreaterThan(span.Start).And.GreaterThanOrEqualTo(end).And.LessThanOrEqualTo(text.Length), () => GoldenCase.Show(text));
                end = span.End;
            }

            Assert.That(end, Is.EqualTo(text.Length), () => GoldenCase.Show(text));
        }
    }

    [Test]
    public void The_bytes_of_one_character_all_have_its_range()
    {
        var tokenizer = SmallTokenizers.Load("bytes");
        var spans = tokenizer.EncodeWithOffsets("a😀b", addSpecialTokens: false);
        Assert.That(spans.Select(s => (s.Start, s.End)), Is.EqualTo(new[] { (0, 1), (1, 3), (1, 3), (1, 3), (1, 3), (3, 4) }));
    }

    [Test]
    public void A_composed_character_has_the_range_of_all_that_it_was_composed_of()
    {
        var json = SmallTokenizers.Json("bytes");
        json["normalizer"] = System.Text.Json.Nodes.JsonNode.Parse("""{"type": "NFC"}""");
        var spans = SmallTokenizers.Load(json).EncodeWithOffsets("xe\u0301y", addSpecialTokens: false);
        Assert.That(spans[0].Start, Is.Zero);
        Assert.That(spans.Skip(1).SkipLast(1).All(s => (s.Start, s.End) == (1, 3)), Is.True);
        Assert.That((spans[^1].Start, spans[^1].End), Is.EqualTo((3, 4)));
    }

    [Test]
    public void Tokens_that_a_template_adds_stand_for_nothing()
    {
        var spans = SmallTokenizers.Load("pieces").EncodeWithOffsets("the dog", addSpecialTokens: true);
        Assert.That(spans[0], Is.EqualTo(new TokenSpan(1, 0, 0)));
        Assert.That(spans[1].End, Is.GreaterThan(0));
    }

    [Test]
    public void Spaces_belong_to_a_token_unless_trimming_is_asked_for_and_configured()
    {
        var json = SmallTokenizers.Json("bytes");
        json["post_processor"] = System.Text.Json.Nodes.JsonNode.Parse("""{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}""");
        var tokenizer = SmallTokenizers.Load(json);
        Assert.That(tokenizer.EncodeWithOffsets("the the", addSpecialTokens: false)[^1], Has.Property(nameof(TokenSpan.Start)).EqualTo(3));
        Assert.That(tokenizer.EncodeWithOffsets("the the", addSpecialTokens: false, trimOffsets: true)[^1], Has.Property(nameof(TokenSpan.Start)).EqualTo(4));
    }
}
