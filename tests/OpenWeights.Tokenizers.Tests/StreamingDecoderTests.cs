using System.Text;

using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Decoding token by token.</summary>
public sealed class StreamingDecoderTests
{
    [Test]
    public void The_bytes_of_a_character_are_held_back_until_it_is_whole()
    {
        var tokenizer = SmallTokenizers.Load("bytes");
        var decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: false);
        var ids = tokenizer.Encode("😀", addSpecialTokens: false);
        Assert.That(ids, Has.Length.EqualTo(4), "the character must be four tokens for this test");
        Assert.That(ids.Select(decoder.Add).ToArray(), Is.EqualTo(new[] { "", "", "", "😀" }));
        Assert.That(decoder.Finish(), Is.Empty);
    }

    [Test]
    public void A_character_that_never_becomes_whole_ends_as_the_replacement_character()
    {
        var tokenizer = SmallTokenizers.Load("bytes");
        var decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: false);
        var ids = tokenizer.Encode("a😀", addSpecialTokens: false);
        Assert.That(string.Concat(ids[..3].Select(decoder.Add)), Is.EqualTo("a"));
        Assert.That(decoder.Finish(), Is.EqualTo("\uFFFD"));
    }

    [Test]
    public void Fallback_bytes_wait_for_the_end_of_their_run_since_one_bad_byte_spoils_all()
    {
        var tokenizer = SmallTokenizers.Load("pieces");
        int Byte(byte value) => tokenizer.TokenToId($"<0x{value:X2}>")!.Value;
        var decoder = tokenizer.CreateStreamingDecoder(skipSpecialTokens: false);
        Assert.That(decoder.Add(Byte(0xC3)) + decoder.Add(Byte(0xA9)), Is.Empty);
        Assert.That(decoder.Add(Byte(0xFF)), Is.Empty);
        Assert.That(decoder.Add(tokenizer.TokenToId("e")!.Value), Is.EqualTo("\uFFFD\uFFFD\uFFFDe"));
    }

    [Test]
    public void Nothing_can_be_added_once_it_has_finished()
    {
        var decoder = SmallTokenizers.Load("bytes").CreateStreamingDecoder(skipSpecialTokens: false);
        _ = decoder.Finish();
        Assert.That(() => decoder.Add(5), Throws.InvalidOperationException);
        Assert.That(decoder.Finish, Throws.InvalidOperationException);
    }

    [Test]
    public void Ids_that_no_token_has_add_nothing()
    {
        var tokenizer = SmallTokenizers.Load("bytes");
        Assert.That(tokenizer.Decode([-1, int.MaxValue, tokenizer.VocabularySize], skipSpecialTokens: false), Is.Empty);
    }

    /// <summary>Decodes token by token and compares with decoding at once, with and without special tokens.</summary>
    internal static void ExpectSame(Tokenizer tokenizer, int[] ids)
    {
        foreach (var skips in new[] { false, true })
        {
            var decoder = tokenizer.CreateStreamingDecoder(skips);
            var text = new StringBuilder();
            foreach (var id in ids)
            {
                var part = decoder.Add(id);
                Assert.That(part.Length > 0 && (char.IsLowSurrogate(part[0]) || char.IsHighSurrogate(part[^1])), Is.False, "half a character");
                _ = text.Append(part);
            }

            _ = text.Append(decoder.Finish());
            Assert.That(text.ToString(), Is.EqualTo(tokenizer.Decode(ids.AsSpan(), skips)));
        }
    }
}
