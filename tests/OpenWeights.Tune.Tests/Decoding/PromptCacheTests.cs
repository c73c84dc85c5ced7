using NUnit.Framework;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Tests.Models.Families;

namespace OpenWeights.Tune.Tests.Decoding;

/// <summary>Texts that go on from what was read before say what they say when they are read anew.</summary>
public sealed class PromptCacheTests
{
    // Prompts that grow, that go back and differ in the middle, that are a beginning of the last, and that have nothing in common with it.
    private static readonly int[][] s_prompts =
    [
        [5, 9, 2, 7], [5, 9, 2, 7, 31, 12, 8, 1, 30, 22, 4, 4], [5, 9, 2, 7, 31, 3, 3, 3], [5, 9, 2, 7, 31, 3, 3], [5, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ];

    [TestCaseSource(typeof(FamilyCases), nameof(FamilyCases.Names))]
    public void A_text_that_begins_as_the_last_goes_on_as_if_it_were_read_whole(string name)
    {
        using var model = FamilyCases.Make(name);
        using var memory = new PromptCache();
        // Texts go beyond what the smallest of the configs were made for.
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = 7, MaxPositions = 64 });
        foreach (var prompt in s_prompts)
        {
            // As in a conversation: the answer, and then more.
            foreach (var text in new[] { prompt, [.. prompt, .. generator.Continue([prompt])[0].OutputIds, 17, 3] })
            {
                Assert.That(generator.Continue(text, memory).OutputIds, Is.EqualTo(generator.Continue([text])[0].OutputIds), string.Join(' ', text));
                Assert.That(memory.Length, Is.EqualTo(text.Length + 6), "all but the last new token was read");
            }
        }
    }

    [Test]
    public void Only_what_is_new_is_read()
    {
        using var model = FamilyCases.Make("llama");
        using var memory = new PromptCache();
        var (cache, known) = memory.Take([1, 2, 3]);
        Assert.That((cache.Length, known), Is.EqualTo((0, 0)));
        cache.Dispose();
        _ = new TextGenerator(model, new GenerationOptions { MaxNewTokens = 3 }).Continue([1, 2, 3, 4], memory);
        var config = model.Config;
        Assert.That(memory.ByteLength, Is.GreaterThanOrEqualTo(2L * memory.Length * config.LayerCount * config.KeyValueHeadCount * config.HeadDimension * sizeof(float)), "keys and values in float32");
        (cache, known) = memory.Take([1, 2, 3, 9, 9]);
        Assert.That((cache.Length, known, memory.Length), Is.EqualTo((3, 3, 0)), "the beginning that is the same");
        memory.Keep(cache, [1, 2, 3]);
        (cache, known) = memory.Take([1, 2, 3]);
        Assert.That((cache.Length, known), Is.EqualTo((2, 2)), "the last token's scores are wanted, so it is read again");
        Assert.That(memory.ByteLength, Is.Zero);
        cache.Dispose();
    }

    [Test]
    public void An_answer_that_was_stopped_is_remembered_as_far_as_it_was_read()
    {
        using var model = FamilyCases.Make("qwen3");
        using var memory = new PromptCache();
        using var stop = new CancellationTokenSource();
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = 9 });
        var made = new List<int>();
        Assert.That(
            () => generator.Continue([3, 1, 4], memory, token =>
            {
                made.Add(token);
                if (made.Count == 4)
                {
                    stop.Cancel();
                }

                return true;
            }, stop: stop.Token),
            Throws.InstanceOf<OperationCanceledException>());
        Assert.That(memory.Length, Is.EqualTo(3 + 3));
        int[] next = [3, 1, 4, .. made, 8];
        Assert.That(generator.Continue(next, memory).OutputIds, Is.EqualTo(generator.Continue([next])[0].OutputIds));
    }

    [TestCase(null, 40, true)]
    [TestCase(8, 99, true)]
    [TestCase(8, 40, false)]
    public void A_window_goes_back_only_as_far_as_it_still_holds(int? window, int length, bool possible)
    {
        using var weights = new VariedWeightSource(1);
        using var attention = new SelfAttention(
            new AttentionSettings { HiddenSize = 4, HeadCount = 1, KeyValueHeadCount = 1, HeadDimension = 4, Scale = 1, Norm = new RmsNormSettings(1e-5), SlidingWindow = window }, weights, "attention");
        using var cache = new DecoderCache();
        void Read(int tokens)
        {
            using var scope = TorchSharp.torch.NewDisposeScope();
            var states = TorchSharp.torch.arange(cache.Length, cache.Length + tokens, TorchSharp.torch.float32).view(1, 1, tokens, 1);
            var (keys, _) = ((KeyValueState)cache.Of(0, attention)).Append(states, states);
            var kept = Math.Min(cache.Length, (window ?? int.MaxValue) - 1);
            Assert.That(keys.narrow(2, 0, 1).item<float>(), Is.EqualTo(cache.Length - kept));
            cache.Advance(tokens, cache.Length + tokens - 1);
        }

        Read(50);
        for (var i = 0; i < 50; i++)
        {
            Read(1);
        }

        Assert.That(cache.Truncate(length), Is.EqualTo(possible));
        Assert.That(cache.Length, Is.EqualTo(possible ? length : 100));
        Read(3);
        Assert.That(cache.LongestPosition, Is.EqualTo(cache.Length - 1));
    }
}
