using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Decoding.Engine;

/// <summary>Texts that share blocks of keys and values, and what happens when there are too few.</summary>
public sealed class BlockRoadTests
{
    private const int Long = 2000;

    // Keys and values of the tiny model: 2 layers, 2 heads of 8 numbers, 64 tokens.
    private const int BlockBytes = 2 * 2 * 2 * 8 * 64 * sizeof(float);

    private static readonly TextEngineOptions s_options = new() { MaxRows = 8, PromptChunk = 50, MaxPositions = Long };
    private static readonly GenerationOptions s_answer = new() { MaxNewTokens = 20, MaxPositions = Long };

    [Test]
    public async Task A_second_turn_reads_only_what_is_new([Values] bool half)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), half ? bfloat16 : float32, CPU);
        await using var engine = new TextEngine(loaded.Model, null, s_options);
        var turn = EngineTest.Prompts(TinyModel.Vocabulary, 100)[0];
        for (var (turns, known) = (0, 0); turns < 4; turns++)
        {
            var answer = await engine.Whole(new TextRequest(turn, s_answer));
            Assert.That(answer.Select(static t => t.CachedTokens), Is.All.EqualTo(known));
            int[] ids = [.. answer.Select(static t => t.Token)];
            if (!half)
            {
                Assert.That(ids, Is.EqualTo(new TextGenerator(loaded.Model, s_answer).Continue([turn])[0].OutputIds));
            }

            // The last token of an answer is not read.
            known = turn.Length + ids.Length - 1;
            turn = [.. turn, .. ids, .. EngineTest.Prompts(TinyModel.Vocabulary, 0, 10 + turns)[1]];
        }

        Assert.That(engine.Status.CachedPromptTokens, Is.EqualTo(119 + 149 + 180).Or.GreaterThan(400));
        Assert.That(engine.Status.UsedBytes, Is.Zero);
    }

    [Test]
    public async Task Texts_with_the_same_beginning_share_it_though_they_come_together()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        await using var engine = new TextEngine(loaded.Model, null, s_options);
        var shared = EngineTest.Prompts(TinyModel.Vocabulary, 150)[0];
        int[][] prompts = [shared, [.. shared[..140], 3, 4], shared, [1, .. shared], [.. shared[..130], 9]];
        var found = await Task.WhenAll(prompts.Select(p => engine.Whole(new TextRequest(p, s_answer))));
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(found[i].Select(static t => t.Token), Is.EqualTo(new TextGenerator(loaded.Model, s_answer).Continue([prompts[i]])[0].OutputIds), $"prompt {i}");
        }

        Assert.That(found.Select(static f => f[0].CachedTokens), Is.EqualTo(new[] { 0, 128, 128, 0, 128 }));
        Assert.That((await engine.Whole(new TextRequest(prompts[1], s_answer)))[0].CachedTokens, Is.EqualTo(141), "all but the last, whose scores are wanted");
    }

    [Test]
    public async Task Blocks_that_were_not_used_for_the_longest_time_make_room()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        await using var engine = new TextEngine(loaded.Model, null, s_options with { MaxCacheBytes = 6 * BlockBytes });
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 100, 100, 100, 100);
        async Task<int> Known(int prompt) => (await engine.Whole(new TextRequest(prompts[prompt], s_answer)))[0].CachedTokens;
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(await Known(i), Is.Zero);
            Assert.That(engine.Status.KeptBytes, Is.EqualTo(Math.Min(3, i + 1) * 2 * BlockBytes));
            Assert.That(engine.Status.UsedBytes, Is.Zero);
        }

        Assert.That(await Known(3), Is.EqualTo(99));
        Assert.That(await Known(0), Is.Zero, "the first one made room for the last");
    }

    [TestCase(false, 1)]
    [TestCase(true, 1)]
    [TestCase(false, 3)]
    public async Task When_memory_is_full_the_youngest_text_is_read_again_later(bool sampled, int adaptersInUse)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        string[] paths = [EngineTest.WriteAdapter(folder, loaded.Model, "a", 1), EngineTest.WriteAdapter(folder, loaded.Model, "b", 2)];
        string?[] names = [null, "a", "b"];
        var options = s_answer with { MaxNewTokens = 120, Temperature = sampled ? 1 : 0 };
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 50, 20, 60, 5, 80, 33);
        var expected = new List<IReadOnlyList<int>>();
        _ = adapters.Load("a", paths[0]);
        _ = adapters.Load("b", paths[1]);
        for (var i = 0; i < prompts.Length; i++)
        {
            adapters.Use(names[i % adaptersInUse] is { } name ? [(name, 1)] : []);
            expected.Add(new TextGenerator(loaded.Model, options).Continue([prompts[i]])[0].OutputIds);
        }

        // A quarter is for adapters of other kinds; 6 blocks remain.
        await using var engine = new TextEngine(loaded.Model, adapters, s_options with { MaxCacheBytes = 8 * BlockBytes });
        var found = await Task.WhenAll(prompts.Select((p, i) => engine.Ids(new TextRequest(p, options) { Adapter = names[i % adaptersInUse] })));
        Assert.That(found, Is.EqualTo(expected));
        Assert.That(engine.Status.Preemptions, Is.GreaterThan(0));
        Assert.That(engine.Status.Rows, Is.GreaterThan(engine.Status.Steps), "texts go on together");
        Assert.That(engine.Status.UsedBytes, Is.Zero);
    }

    [Test]
    public async Task A_text_that_memory_can_never_hold_ends_with_what_it_has()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        await using var engine = new TextEngine(loaded.Model, null, s_options with { MaxCacheBytes = 2 * BlockBytes });
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 300, 10, 100);
        var large = engine.Whole(new TextRequest(prompts[0], s_answer));
        var small = engine.Ids(new TextRequest(prompts[1], s_answer));
        var growing = new List<int>();
        Assert.That(async () => await large, Throws.InstanceOf<InvalidDataException>().With.Message.Contains("memory"));
        Assert.That(await small, Is.EqualTo(new TextGenerator(loaded.Model, s_answer).Continue([prompts[1]])[0].OutputIds));
        Assert.That(
            async () =>
            {
                await foreach (var token in engine.GenerateAsync(new TextRequest(prompts[2], s_answer with { MaxNewTokens = 100 })))
                {
                    growing.Add(token.Token);
                }
            },
            Throws.InstanceOf<InvalidDataException>());
        Assert.That(growing, Has.Count.EqualTo(29), "128 tokens are read, and then the next is known");
        Assert.That(engine.Status.UsedBytes, Is.Zero);
    }

    [Test]
    public async Task Rows_of_one_step_can_be_of_adapters_that_change_different_layers()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        string[] paths =
        [
            EngineTest.WriteAdapter(folder, loaded.Model, "a", 1, new LoraConfig { Rank = 5, Targets = TargetModules.Of(["q_proj", "down_proj"]) }),
            EngineTest.WriteAdapter(folder, loaded.Model, "b", 2, new LoraConfig { Rank = 2, Targets = TargetModules.Of(["v_proj", "o_proj", "up_proj"]) }),
            EngineTest.WriteAdapter(folder, loaded.Model, "c", 3, new LoraConfig { Rank = 3, UseDora = true }),
        ];
        string?[] names = [null, "a", "b", "c"];
        for (var i = 0; i < paths.Length; i++)
        {
            _ = adapters.Load(names[i + 1]!, paths[i]);
        }

        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 12, 12, 12, 12, 7, 8, 9, 10);
        var expected = new List<IReadOnlyList<int>>();
        for (var i = 0; i < prompts.Length; i++)
        {
            adapters.Use(names[i % names.Length] is { } name ? [(name, 1)] : []);
            expected.Add(new TextGenerator(loaded.Model, s_answer).Continue([prompts[i]])[0].OutputIds);
        }

        await using var engine = new TextEngine(loaded.Model, adapters, s_options);
        Assert.That(await Task.WhenAll(prompts.Select((p, i) => engine.Ids(new TextRequest(p, s_answer) { Adapter = names[i % names.Length] }))), Is.EqualTo(expected));
    }

    [Test]
    public async Task Short_prompts_are_read_in_one_go([Values] bool half)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), half ? bfloat16 : float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        var path = EngineTest.WriteAdapter(folder, loaded.Model, "a", 1);
        _ = adapters.Load("a", path);
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 9, 20, 3, 2, 40, 11, 7, 15);
        await using var engine = new TextEngine(loaded.Model, adapters, s_options with { PromptChunk = 200 });

        // All are there before the first begins.
        var begun = new TaskCompletionSource();
        var work = engine.RunAsync(() =>
        {
            begun.Task.Wait();
            return true;
        });
        string?[] names = [null, "a"];
        var asked = prompts.Select((p, i) => engine.Ids(new TextRequest(p, s_answer) { Adapter = names[i % 2] })).ToList();
        begun.SetResult();
        _ = await work;
        var found = await Task.WhenAll(asked);
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(found[i], Is.EqualTo(await engine.RunAsync(() => Alone(prompts[i], names[i % 2]))), $"prompt {i}");
        }

        IReadOnlyList<int> Alone(int[] prompt, string? name)
        {
            adapters.Use(name is null ? [] : [(name, 1)]);
            return new TextGenerator(loaded.Model, s_answer).Continue([prompt])[0].OutputIds;
        }
    }

    [Test]
    public async Task Prompts_whose_beginnings_are_known_are_read_together([Values] bool half)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), half ? bfloat16 : float32, CPU);
        await using var engine = new TextEngine(loaded.Model, null, s_options with { PromptChunk = 200 });
        var shared = EngineTest.Prompts(TinyModel.Vocabulary, 150)[0];
        int[][] prompts = [[.. shared[..130], 5, 6], [.. shared, 7, 8, 9], [.. shared[..70], 1], EngineTest.Prompts(TinyModel.Vocabulary, 3, 4)[1], [.. shared[..140], 2, 2, 2, 2]];
        _ = await engine.Ids(new TextRequest(shared, s_answer));

        // All are there before the first begins.
        var begun = new TaskCompletionSource();
        var work = engine.RunAsync(() =>
        {
            begun.Task.Wait();
            return true;
        });
        var asked = prompts.Select(p => engine.Whole(new TextRequest(p, s_answer))).ToList();
        begun.SetResult();
        _ = await work;
        var found = await Task.WhenAll(asked);
        Assert.That(found.Select(static f => f[0].CachedTokens), Is.EqualTo(new[] { 130, 150, 70, 0, 140 }));
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(found[i].Select(static t => t.Token), Is.EqualTo(new TextGenerator(loaded.Model, s_answer).Continue([prompts[i]])[0].OutputIds), $"prompt {i}");
        }
    }

    [Test]
    public async Task In_bfloat16_texts_are_what_the_generator_says_to_each_prompt_alone()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), bfloat16, CPU);
        var prompts = EngineTest.Prompts(TinyModel.Vocabulary, 12, 30, 45, 2, 7);
        await using var engine = new TextEngine(loaded.Model, null, s_options);
        var found = await Task.WhenAll(prompts.Select(p => engine.Ids(new TextRequest(p, s_answer))));
        Assert.That(found, Is.EqualTo(prompts.Select(p => new TextGenerator(loaded.Model, s_answer).Continue([p])[0].OutputIds)));
    }
}
