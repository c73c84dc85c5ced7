using NUnit.Framework;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Tests.Models.Families;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Decoding;

/// <summary>Several answers to one prompt: it is read once, and each answer goes on from a copy of its states.</summary>
[Category(TestDevice.CpuAlone)]
internal sealed class EqualPromptsTests
{
    private static readonly int[] s_first = [5, 9, 2, 7, 7, 31, 12, 8, 1, 30, 22];
    private static readonly int[] s_second = [5, 9, 2, 7, 7, 31, 12, 8, 1, 30, 3];

    // Frequencies of these depend on the length of the text, after which it is read again as a whole.
    private static readonly IEnumerable<string> s_steady = FamilyCases.Names.Where(static n => !n.Contains("dynamic", StringComparison.Ordinal) && !n.Contains("longrope", StringComparison.Ordinal));

    [Test]
    public void Answers_are_those_of_texts_read_by_themselves([ValueSource(typeof(FamilyCases), nameof(FamilyCases.Names))] string name, [Values(0.0, 1.0)] double temperature)
    {
        using var model = FamilyCases.Make(name);
        int[][] prompts = [s_first, s_first, s_second, s_first, s_second];
        var options = new GenerationOptions { MaxNewTokens = 12, Temperature = temperature, Seed = 4, LogProbs = true };
        var together = new TextGenerator(model, options).Continue(prompts);
        for (var i = 0; i < prompts.Length; i++)
        {
            var alone = new TextGenerator(model, options with { FirstText = i }).Continue([prompts[i]])[0];
            Assert.That(together[i].OutputIds, Is.EqualTo(alone.OutputIds), $"text {i}");
            Assert.That(together[i].LogProbs, Is.EqualTo(alone.LogProbs).Within(5e-4), $"text {i}");
        }

        Assert.That(together.Select(static t => string.Join(' ', t.OutputIds)).Distinct().Count(), temperature == 0 ? Is.LessThanOrEqualTo(2) : Is.EqualTo(5));
    }

    [Test]
    public void Texts_that_have_ended_leave_the_batch_and_the_others_go_on_as_alone([ValueSource(typeof(FamilyCases), nameof(FamilyCases.Names))] string name)
    {
        using var model = FamilyCases.Make(name);
        int[][] prompts = [s_first, s_first, s_second, s_first, s_second];
        int[] lengths = [2, 12, 3, 4, 9];
        var options = new GenerationOptions { MaxNewTokens = 12, Temperature = 1, Seed = 4, LogProbs = true };
        var made = new int[prompts.Length];
        var together = new TextGenerator(model, options).Continue(prompts, (i, _) => ++made[i] < lengths[i]);
        for (var i = 0; i < prompts.Length; i++)
        {
            var alone = new TextGenerator(model, options with { FirstText = i, MaxNewTokens = lengths[i] }).Continue([prompts[i]])[0];
            Assert.That(together[i].OutputIds, Is.EqualTo(alone.OutputIds), $"text {i}");
            Assert.That(together[i].LogProbs, Is.EqualTo(alone.LogProbs).Within(5e-4), $"text {i}");
        }
    }

    [Test]
    public void Rows_leave_once_a_quarter_has_ended_or_few_are_left()
    {
        Assert.That(Left(8, ended: 1), Is.EqualTo(8));
        Assert.That(Left(8, ended: 2), Is.EqualTo(6));
        Assert.That(Left(17, ended: 1), Is.EqualTo(16));
        Assert.That(Left(40, ended: 9), Is.EqualTo(40));
        Assert.That(Left(3, ended: 3), Is.EqualTo(3), "nothing is computed of them any more");
    }

    [Test]
    public void Shorter_prompts_among_them_are_padded_as_before()
    {
        using var model = FamilyCases.Make("gemma3_text");
        int[][] prompts = [s_first, [3, 4], s_first, [3, 4], [6]];
        int[] lengths = [2, 12, 3, 12, 9];
        var options = new GenerationOptions { MaxNewTokens = 12, Temperature = 1, Seed = 4 };
        var (together, made) = (new TextGenerator(model, options).Continue(prompts), new int[prompts.Length]);
        var ending = new TextGenerator(model, options).Continue(prompts, (i, _) => ++made[i] < lengths[i]);
        for (var i = 0; i < prompts.Length; i++)
        {
            var alone = new TextGenerator(model, options with { FirstText = i }).Continue([prompts[i]])[0].OutputIds;
            Assert.That(together[i].OutputIds, Is.EqualTo(alone), $"text {i}");
            Assert.That(ending[i].OutputIds, Is.EqualTo(alone.Take(lengths[i])), $"text {i}, which ends after {lengths[i]}");
        }
    }

    [Test]
    public void Only_prompts_with_the_same_tokens_and_the_same_adapter_are_equal()
    {
        int[][] prompts = [[1, 2], [1], [1, 2], [1, 2], [1]];
        Assert.That(EqualPrompts.Of(prompts, null)!.Groups, Is.EqualTo(new[] { 0, 1, 0, 0, 1 }));
        var named = EqualPrompts.Of(prompts, ["a", null, "b", "a", null])!;
        Assert.That(named.Groups, Is.EqualTo(new[] { 0, 1, 2, 0, 1 }));
        Assert.That(named.First(prompts), Is.EqualTo(new[] { prompts[0], prompts[1], prompts[2] }));
        Assert.That(EqualPrompts.Of(prompts[..2], null), Is.Null);
    }

    [Test]
    public void What_a_cache_takes_is_known_from_the_shapes([ValueSource(nameof(s_steady))] string name, [Values(40, 90)] int prompt)
    {
        const int Rows = 3;
        const int Tokens = 140;
        using var model = FamilyCases.Make(name);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var cache = new DecoderCache();
        for (int read = 0, count = prompt; read < Tokens; read += count, count = 1)
        {
            using var step = NewDisposeScope();
            var ids = tensor([.. Enumerable.Range(read, count).Select(static i => (long)(i % FamilyCases.Vocabulary))], [1, count]).expand(Rows, -1).contiguous();
            var positions = arange(read, read + count, int64).unsqueeze(0).expand(Rows, -1).contiguous();
            _ = model.call(new ModelInput { InputIds = ids, PositionIds = positions, LongestPosition = read + count - 1, Cache = cache });
            var told = model.Stack.Layers.Sum(l => l.Mixer?.Part.StateBytes(new CachedTexts(Rows, prompt, read + count), sizeof(float)) ?? 0);
            Assert.That(told, Is.EqualTo(cache.ByteLength).Within(1).Percent, $"after {read + count} tokens");
            Assert.That(cache.ByteLength, Is.GreaterThan(0));
        }
    }

    // Rows of a batch after some texts have ended.
    private static int Left(int rows, int ended)
    {
        using var cache = new DecoderCache();
        var batch = new TextBatch([.. Enumerable.Repeat(s_first, rows)], new GenerationOptions(), null, null, 0);
        foreach (var text in batch.Texts.Skip(1).Take(ended - 1).Append(batch.Texts[0]))
        {
            text.Close("stop");
        }

        Assert.That(batch.DropEnded(cache), Is.EqualTo(batch.Texts.Count < rows));
        Assert.That(batch.Texts.Count == rows || batch.Texts.All(static t => t.Open), Is.True);
        Assert.That(new[] { batch.Next.Length, batch.Read.Length, batch.Padding.Length }, Is.All.EqualTo(batch.Texts.Count));
        return batch.Texts.Count;
    }
}
