using NUnit.Framework;
using OpenWeights.Tune.Layers.Attention;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Layers;

/// <summary>What attention remembers gives back and holds on to.</summary>
public sealed class KeyValueStateTests
{
    [TestCase(null)]
    [TestCase(1)]
    [TestCase(7)]
    [TestCase(100)]
    public void Each_token_gets_the_keys_that_it_can_see_in_their_order(int? window)
    {
        using var scope = NewDisposeScope();
        using var state = new KeyValueState(window);
        var past = 0;
        foreach (var tokens in new[] { 1, 300, 1, 1, 90, 1, 1, 70, 1 })
        {
            var given = arange(past, past + tokens, float32).view(1, 1, tokens, 1).expand(2, 3, tokens, 4);
            var (keys, values) = state.Append(given, given.neg());
            var first = Math.Max(0, past - (window ?? int.MaxValue) + 1);
            var expected = arange(first, past + tokens, float32).view(1, 1, -1, 1).expand(2, 3, past + tokens - first, 4);
            Assert.That(Golden.LargestDifference(keys, expected), Is.Zero);
            Assert.That(Golden.LargestDifference(values, expected.neg()), Is.Zero);
            Assert.That(keys.shape, Is.EqualTo(expected.shape));
            past += tokens;
        }
    }

    [Test]
    public void A_sliding_window_keeps_the_cache_small_however_long_the_text_is()
    {
        using var held = new KeyValueState(window: 16);
        void Read(int tokens)
        {
            using var scope = NewDisposeScope();
            var states = zeros([1, 1, tokens, 1]);
            _ = held.Append(states, states);
        }

        Read(5000);
        for (var i = 0; i < 1000; i++)
        {
            Read(1);
            Assert.That(held.ByteLength, Is.LessThanOrEqualTo(2 * 64 * sizeof(float)));
        }
    }

    [TestCase(128)]
    [TestCase(500)]
    [TestCase(512)]
    public void A_full_window_is_not_copied_for_every_token(int window)
    {
        using var held = new KeyValueState(window);
        using (NewDisposeScope())
        {
            var states = zeros([1, 1, window, 1]);
            _ = held.Append(states, states);
        }

        var copies = 0;
        nint before = 0;
        for (var i = 0; i < 4 * window; i++)
        {
            var slot = held.Reserve();
            copies += slot.Keys == before ? 0 : 1;
            before = slot.Keys;
            Assert.That((long)slot.Seen, Is.EqualTo(window - 1));
            Assert.That(held.ByteLength, Is.LessThanOrEqualTo(2 * sizeof(float) * 5 * window / 4));
        }

        Assert.That(copies, Is.LessThanOrEqualTo(18));
    }
}
