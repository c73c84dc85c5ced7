using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Models.Families;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Decoding.Engine;

/// <summary>Texts of an engine, against the generator of one text; and what happens to those that end before.</summary>
public sealed class TextEngineTests
{
    private const int Endless = 100_000;

    private static readonly TextEngineOptions s_options = new() { MaxRows = 4, PromptChunk = 6 };

    [Test]
    public async Task Texts_are_what_the_generator_says_to_each_prompt_alone([ValueSource(typeof(FamilyCases), nameof(FamilyCases.Names))] string name, [Values(6, 60)] int chunk)
    {
        using var model = FamilyCases.Make(name);
        var options = new GenerationOptions { MaxNewTokens = 9, MaxPositions = 100 };
        var prompts = EngineTest.Prompts(FamilyCases.Vocabulary, 3, 30, 1, 9, 70, 12);
        var expected = prompts.Select(p => new TextGenerator(model, options).Continue([p])[0]).ToList();
        await using var engine = new TextEngine(model, null, s_options with { MaxPositions = 100, PromptChunk = chunk });
        var found = await Task.WhenAll(prompts.Select(p => engine.Whole(new TextRequest(p, options))));
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(found[i].Select(static t => t.Token), Is.EqualTo(expected[i].OutputIds), $"prompt {i}");
            Assert.That(found[i].Select(static t => t.FinishReason), Is.EqualTo(Enumerable.Repeat<string?>(null, 8).Append("length")));
        }

        // Once more, from the states that are kept.
        Assert.That(await engine.Ids(new TextRequest(prompts[4], options)), Is.EqualTo(expected[4].OutputIds));
    }

    [Test]
    public async Task Sampled_texts_do_not_depend_on_others()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 5, 8, 2, 11, 20, 3, 7);
        var options = prompts.Select((_, i) => new GenerationOptions
        {
            MaxNewTokens = 12 + i,
            Temperature = 0.5 + (0.2 * i),
            Seed = i,
            TopK = i % 2 * 10,
            TopP = i % 3 == 0 ? 0.8 : 1,
            MinP = i % 4 == 1 ? 0.05 : 0,
            RepetitionPenalty = i == 6 ? 1.3 : 1,
        }).ToList();
        var expected = prompts.Select((p, i) => new TextGenerator(loaded.Model, options[i]).Continue([p])[0].OutputIds).ToList();
        await using var engine = new TextEngine(loaded.Model, null, s_options);
        var found = await Task.WhenAll(prompts.Select((p, i) => engine.Ids(new TextRequest(p, options[i]))));
        Assert.That(found, Is.EqualTo(expected));
    }

    [Test]
    public async Task Texts_of_different_adapters_and_of_the_base_are_generated_together()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        string[] paths = [EngineTest.WriteAdapter(folder, loaded.Model, "a", 1), EngineTest.WriteAdapter(folder, loaded.Model, "b", 2), EngineTest.WriteAdapter(folder, loaded.Model, "p", 3, new PromptTuningConfig { NumVirtualTokens = 4 })];
        _ = adapters.Load("a", paths[0]);
        _ = adapters.Load("b", paths[1]);
        _ = adapters.Load("virtual", paths[2]);
        var options = new GenerationOptions { MaxNewTokens = 10, LogProbs = true };
        string?[] names = ["a", null, "b", "virtual", "a", null, "b", "virtual"];
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 5, 5, 5, 5, 9, 13, 6, 8);
        prompts[1] = prompts[2] = prompts[3] = prompts[0];
        var expected = new List<GenerationResult>();
        foreach (var (prompt, name) in prompts.Zip(names))
        {
            adapters.Use(name is null ? [] : [(name, 1)]);
            expected.Add(new TextGenerator(loaded.Model, options).Continue([prompt])[0]);
        }

        Assert.That(expected.Take(4).Select(static e => string.Join(' ', e.LogProbs)), Is.Unique, "each adapter says it with other probabilities");
        await using var engine = new TextEngine(loaded.Model, adapters, s_options);
        for (var again = 0; again < 2; again++)
        {
            var found = await Task.WhenAll(prompts.Select((p, i) => engine.Whole(new TextRequest(p, options) { Adapter = names[i] })));
            for (var i = 0; i < names.Length; i++)
            {
                Assert.That(found[i].Select(static t => t.Token), Is.EqualTo(expected[i].OutputIds), $"prompt {i}");
                Assert.That(found[i].Select(static t => t.LogProb), Is.EqualTo(expected[i].LogProbs).Within(1e-3), $"prompt {i}");
            }
        }
    }

    [Test]
    public async Task Adapters_come_and_go_while_texts_are_generated()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        var (first, second) = (EngineTest.WriteAdapter(folder, loaded.Model, "a", 1), EngineTest.WriteAdapter(folder, loaded.Model, "b", 2));
        var options = new GenerationOptions { MaxNewTokens = 12 };
        int[] prompt = [4, 9, 33, 2, 71];
        IReadOnlyList<int> Alone(string path)
        {
            using var adapter = PeftFolder.Load(loaded.Model, path);
            return new TextGenerator(loaded.Model, options).Continue([prompt])[0].OutputIds;
        }

        var (ofFirst, ofSecond) = (Alone(first), Alone(second));
        await using var engine = new TextEngine(loaded.Model, adapters, s_options with { MaxPositions = 2 * Endless });
        var unknown = await Assert.ThrowsAsync<KeyNotFoundException>(() => engine.Ids(new TextRequest(prompt, options) { Adapter = "own" }));
        Assert.That(unknown!.Message, Does.Contain("own"));
        _ = await engine.RunAsync(() => adapters.Load("own", first));
        Assert.That(await engine.Ids(new TextRequest(prompt, options) { Adapter = "own" }), Is.EqualTo(ofFirst));

        // The name is another adapter's now, whose states are not those that are kept.
        _ = await engine.RunAsync(() =>
        {
            adapters.Unload("own");
            return adapters.Load("own", second);
        });
        Assert.That(await engine.Ids(new TextRequest(prompt, options) { Adapter = "own" }), Is.EqualTo(ofSecond));

        var cut = engine.Whole(new TextRequest(prompt, options with { MaxNewTokens = Endless }) { Adapter = "own" });
        await EngineTest.Until(() => engine.Status.Running == 1 || cut.IsCompleted);
        _ = await engine.RunAsync(() =>
        {
            adapters.Unload("own");
            return true;
        });
        Assert.That(async () => await cut, Throws.InvalidOperationException.With.Message.Contains("unloaded"));
    }

    [Test]
    public async Task Who_leaves_frees_the_place_for_the_next()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var options = new GenerationOptions { MaxNewTokens = Endless };
        await using var engine = new TextEngine(loaded.Model, null, s_options with { MaxRows = 1, MaxWaiting = 2, MaxPositions = 2 * Endless });
        using var stop = new CancellationTokenSource();
        var enumerator = engine.GenerateAsync(new TextRequest([1], options)).GetAsyncEnumerator();
        Assert.That(await enumerator.MoveNextAsync(), Is.True);
        var waiting = engine.Whole(new TextRequest([2], options), stop.Token);
        var last = engine.Whole(new TextRequest([3], options with { MaxNewTokens = 3 }));
        await EngineTest.Until(() => engine.Status.Waiting == 2);
        var busy = await Assert.ThrowsAsync<EngineBusyException>(() => engine.Whole(new TextRequest([4], options)));
        Assert.That(busy!.RetryAfter, Is.GreaterThan(TimeSpan.Zero));

        await stop.CancelAsync();
        Assert.That(async () => await waiting, Throws.InstanceOf<OperationCanceledException>());
        Assert.That(engine.Status.Waiting, Is.EqualTo(1));
        await enumerator.DisposeAsync();
        Assert.That((await last).Select(static t => t.FinishReason).Last(), Is.EqualTo("length"));
        await EngineTest.Until(() => engine.Status.Running == 0);
    }

    [Test]
    public async Task A_text_that_fails_harms_no_other()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var options = new GenerationOptions { MaxNewTokens = 20 };
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 5, 8);
        var expected = prompts.Select(p => new TextGenerator(loaded.Model, options).Continue([p])[0].OutputIds).ToList();
        await using var engine = new TextEngine(loaded.Model, null, s_options);
        var right = prompts.Select(p => engine.Ids(new TextRequest(p, options))).ToList();
        Assert.That(() => engine.Whole(new TextRequest([], options)), Throws.ArgumentException);
        Assert.That(() => engine.Whole(new TextRequest([TinyModel.Vocabulary], options)), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("96 tokens"));
        Assert.That(() => engine.Whole(new TextRequest([.. Enumerable.Repeat(1, 128)], options)), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("128 tokens"));
        Assert.That(() => engine.Whole(new TextRequest([1], options with { Temperature = -1 })), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => engine.Whole(new TextRequest([1], options with { LogitBias = new Dictionary<int, float> { [200] = 1 } })), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("200"));
        Assert.That(() => engine.Whole(new TextRequest([1], options) { Adapter = "none" }), Throws.InstanceOf<KeyNotFoundException>());
        Assert.That(() => engine.Whole(new TextRequest([1], options) { Constraint = new Broken() }), Throws.InstanceOf<NotSupportedException>());
        Assert.That(await Task.WhenAll(right), Is.EqualTo(expected));
        Assert.That(engine.Status.Running, Is.Zero);
    }

    [Test]
    public async Task Settings_of_a_text_change_its_scores()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var options = new GenerationOptions { MaxNewTokens = 6 };
        int[] prompt = [4, 9, 33, 2, 71];
        await using var engine = new TextEngine(loaded.Model, null, s_options);
        var plain = await engine.Ids(new TextRequest(prompt, options));
        var biased = await engine.Ids(new TextRequest(prompt, options with { LogitBias = new Dictionary<int, float> { [7] = 100 } }));
        Assert.That(biased, Is.All.EqualTo(7));
        var banned = await engine.Ids(new TextRequest(prompt, options with { LogitBias = plain.Distinct().ToDictionary(static t => t, static _ => float.NegativeInfinity) }));
        Assert.That(banned.Intersect(plain), Is.Empty);
        var once = await engine.Ids(new TextRequest(prompt, options with { PresencePenalty = 1000 }));
        Assert.That(once, Is.Unique);
        Assert.That(once[0], Is.EqualTo(plain[0]), "only what was generated counts");
        var allowed = await engine.Ids(new TextRequest(prompt, options with { Temperature = 2 }) { Constraint = new Even() });
        Assert.That(allowed.Select(static t => t % 2), Is.All.Zero);
        var ended = await engine.Whole(new TextRequest(prompt, options with { EndTokens = [plain[0]] }));
        Assert.That(ended.Single().FinishReason, Is.EqualTo("stop"));
    }

    [Test]
    public async Task Log_probabilities_are_those_of_the_generator_and_the_likeliest_come_first()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var options = new GenerationOptions { MaxNewTokens = 6, Temperature = 0.8, LogProbs = true, TopLogProbs = 5, TopK = 3 };
        int[] prompt = [4, 9, 33, 2, 71];
        var expected = new TextGenerator(loaded.Model, options).Continue([prompt])[0];
        await using var engine = new TextEngine(loaded.Model, null, s_options);
        var found = await engine.Whole(new TextRequest(prompt, options));
        Assert.That(found.Select(static t => t.LogProb), Is.EqualTo(expected.LogProbs).Within(1e-4));
        using var nothing = no_grad();
        var text = prompt.ToList();
        foreach (var token in found)
        {
            using var scope = NewDisposeScope();
            var input = ModelInput.Rows(tensor([.. text.Select(static t => (long)t)], [1, text.Count]));
            using Scalar temperature = 0.8;
            var likely = loaded.Model.Logits(loaded.Model.call(input)).select(0, 0).select(0, text.Count - 1).div(temperature).log_softmax(-1);
            var best = Enumerable.Range(0, (int)likely.size(0)).Select(i => (Token: i, Chance: likely.select(0, i).ToDouble())).OrderByDescending(static c => c.Chance).Take(5).ToList();
            Assert.That(token.Alternatives.Select(static a => a.Token), Is.EqualTo(best.Select(static b => b.Token)));
            Assert.That(token.Alternatives.Select(static a => (double)a.LogProb), Is.EqualTo(best.Select(static b => b.Chance)).Within(1e-4));
            text.Add(token.Token);
        }
    }

    [Test]
    public async Task Draining_finishes_what_is_there_and_takes_no_more()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var options = new GenerationOptions { MaxNewTokens = 15 };
        await using var engine = new TextEngine(loaded.Model, null, s_options with { MaxRows = 2 });
        var texts = Enumerable.Range(0, 5).Select(i => engine.Ids(new TextRequest([i], options))).ToList();
        await EngineTest.Until(() => engine.Status.Running == 2 || engine.Status.GeneratedTokens > 0);
        var drained = engine.DrainAsync();
        Assert.That(() => engine.Ids(new TextRequest([1], options)), Throws.InstanceOf<EngineBusyException>().With.Property(nameof(EngineBusyException.IsDraining)).True);
        await drained;
        Assert.That((await Task.WhenAll(texts)).Select(static t => t.Length), Is.All.EqualTo(15));
        Assert.That(engine.Status.GeneratedTokens, Is.EqualTo(75));
    }

    [Test]
    public async Task A_disposed_engine_ends_its_texts()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var options = new GenerationOptions { MaxNewTokens = Endless };
        var engine = new TextEngine(loaded.Model, null, s_options with { MaxRows = 1, MaxPositions = 2 * Endless });
        var texts = Enumerable.Range(0, 3).Select(i => engine.Whole(new TextRequest([i], options))).ToList();
        await engine.DisposeAsync();
        foreach (var text in texts)
        {
            Assert.That(async () => await text, Throws.InstanceOf<ObjectDisposedException>());
        }

        Assert.That(() => engine.RunAsync(static () => 1), Throws.InstanceOf<ObjectDisposedException>());
    }

    [Test]
    public async Task Nothing_remains_of_texts_whether_they_end_or_are_left()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        var before = await Load(loaded.Model, 20, seed: 1);
        var after = await Load(loaded.Model, 200, seed: 2);
        Assert.That(after, Is.EqualTo(before));

        static async Task<long> Load(CausalLanguageModel model, int count, int seed)
        {
            var random = new Random(seed);
            await using (var engine = new TextEngine(model, null, s_options with { MaxCacheBytes = 1 << 16 }))
            {
                var texts = Enumerable.Range(0, count).Select(async i =>
                {
                    var (length, most, kept) = (random.Next(1, 40), random.Next(1, 30), random.Next(0, 30));
                    var options = new GenerationOptions { MaxNewTokens = most, Temperature = 1, Seed = i };
                    await foreach (var _ in engine.GenerateAsync(new TextRequest([.. Enumerable.Repeat(i % 7, length)], options)))
                    {
                        if (kept-- == 0)
                        {
                            break;
                        }
                    }
                }).ToList();
                await Task.WhenAll(texts);
                await EngineTest.Until(() => engine.Status.Running == 0);
                Assert.That(engine.Status.UsedBytes, Is.Zero, "no text holds anything");
            }

            return Tensor.TotalCount;
        }
    }

    private sealed class Broken : ITokenConstraint
    {
        public void Restrict(Span<float> logits) => throw new NotSupportedException();

        public void Accept(int token)
        {
        }
    }

    private sealed class Even : ITokenConstraint
    {
        public void Restrict(Span<float> logits)
        {
            for (var i = 1; i < logits.Length; i += 2)
            {
                logits[i] = float.NegativeInfinity;
            }
        }

        public void Accept(int token) => Assert.That(token % 2, Is.Zero);
    }
}
