using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Decoding;

/// <summary>Generation: the reference's greedy tokens, batches, seeds and stops.</summary>
public sealed class TextGeneratorTests
{
    private static readonly object[] s_wrong =
    [
        new object[] { new GenerationOptions { TopP = 7 }, "TopP is 7; it must be above 0 and at most 1" },
        new object[] { new GenerationOptions { TopP = 0 }, "TopP is 0" },
        new object[] { new GenerationOptions { Temperature = -0.5 }, "Temperature is -0.5" },
        new object[] { new GenerationOptions { Temperature = double.NaN }, "Temperature is NaN" },
        new object[] { new GenerationOptions { TopK = -1 }, "TopK is -1" },
        new object[] { new GenerationOptions { MinP = 1.5 }, "MinP is 1.5" },
        new object[] { new GenerationOptions { RepetitionPenalty = 0 }, "RepetitionPenalty is 0" },
        new object[] { new GenerationOptions { MaxNewTokens = 0 }, "MaxNewTokens is 0" },
        new object[] { new GenerationOptions { MaxPositions = 0 }, "MaxPositions is 0" },
    ];

    [TestCaseSource(nameof(s_wrong))]
    public void A_setting_that_makes_no_sense_is_refused(GenerationOptions options, string told)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), dtype: null, Devices.Find("cpu"));
        Assert.That(() => new TextGenerator(loaded.Model, options), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains(told));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Stories260K_tells_the_reference_story()
    {
        using var loaded = ModelLoader.Load(SharedFiles.Require("fixtures", "weights", "stories260K-hf"), float32, TestDevice.Current);
        var tokenizer = Tokenizer.Load(loaded.Folder.FolderPath);
        var expected = File.ReadAllText(SharedFiles.Require("fixtures", "weights", "stories260K", "expected-greedy-200.txt"));
        var generated = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 200 }).Continue([[tokenizer.BosToken!.Value]])[0];
        Assert.That(tokenizer.Decode(generated.OutputIds, skipSpecialTokens: true), Is.EqualTo(expected));
    }

    [TestCase(-1)]
    [TestCase(TinyModel.Vocabulary)]
    public void A_token_that_the_model_does_not_know_is_told(int token)
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        Assert.That(() => new TextGenerator(loaded.Model, new GenerationOptions()).Continue([[1, token]]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"the token {token}, and the model knows {TinyModel.Vocabulary} tokens"));
    }

    [Test]
    public void Stories260K_has_the_reference_losses()
    {
        using var loaded = ModelLoader.Load(SharedFiles.Require("fixtures", "weights", "stories260K-hf"), float32, TestDevice.Current);
        var reference = JsonNode.Parse(File.ReadAllText(SharedFiles.Require("fixtures", "weights", "stories260K", "reference.json")))!;
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        long[] ids = [.. reference["input_ids"]!.AsArray().Select(static i => i!.GetValue<long>())];
        var scores = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(tensor(ids, [1, ids.Length], device: TestDevice.Current)))).squeeze(0).to(float64).log_softmax(-1);
        var losses = scores.narrow(0, 0, ids.Length - 1).gather(1, tensor(ids[1..], [ids.Length - 1, 1], device: TestDevice.Current)).neg().cpu().contiguous();
        var actual = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, double>(losses.bytes).ToArray();
        var expected = reference["nll_next_token"]!.AsArray().Select(static v => v!.GetValue<double>()).ToArray();
        Assert.That(actual, Is.EqualTo(expected).Within(1e-4));
    }

    private static readonly IEnumerable<string> s_adapters = Golden.Present("lora_qv", "lora_gemma2", "lora_phi3_fused");

    [TestCaseSource(nameof(s_adapters))]
    public void Greedy_tokens_with_an_adapter_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);
        using var adapter = OpenWeights.Tune.Adapters.PeftFolder.Load(loaded.Model, golden.Folder);
        var expected = golden.Json["generate"]!;
        int[] Ints(string key) => [.. expected[key]![0]!.AsArray().Select(static v => v!.GetValue<int>())];
        var generated = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 16 }).Continue([Ints("prompt")])[0];
        Assert.That(generated.OutputIds, Is.EqualTo(Ints("output")));
    }

    [Test]
    public void Prompts_side_by_side_give_what_each_gives_alone()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        int[][] prompts = [[5, 6, 7, 8, 9, 10, 11], [3], [90, 2, 4]];
        foreach (var options in new[] { new GenerationOptions { MaxNewTokens = 24 }, new GenerationOptions { MaxNewTokens = 24, Temperature = 0.8, TopP = 0.9, TopK = 30, Seed = 9 } })
        {
            var generator = new TextGenerator(loaded.Model, options);
            var together = generator.Continue(prompts);
            Assert.That(together[0].OutputIds, Is.EqualTo(generator.Continue([prompts[0]])[0].OutputIds));
            if (options.Temperature == 0)
            {
                Assert.That(together[1].OutputIds, Is.EqualTo(generator.Continue([prompts[1]])[0].OutputIds));
                Assert.That(together[2].OutputIds, Is.EqualTo(generator.Continue([prompts[2]])[0].OutputIds));
            }
        }
    }

    [Test]
    public void An_end_token_ends_a_text_and_is_its_last_token()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        var free = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 8 }).Continue([[1, 2]])[0];
        var end = free.OutputIds[3];
        var ended = new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 8, EndTokens = [end] }).Continue([[1, 2]])[0];
        Assert.That(ended.OutputIds, Is.EqualTo(free.OutputIds.Take(free.OutputIds.ToList().IndexOf(end) + 1)));
        Assert.That((free.FinishReason, ended.FinishReason), Is.EqualTo(("length", "stop")));
    }

    [Test]
    public void A_stop_text_is_never_passed_on_not_even_its_beginning()
    {
        using var output = new StringWriter();
        var stops = new StopSequences(["END", "\n\n"], output);
        Assert.That(stops.Add("one E"));
        Assert.That(output.ToString(), Is.EqualTo("one "));
        Assert.That(stops.Add("Nough E"));
        Assert.That(stops.Add("ND after"), Is.False);
        stops.Finish("more");
        Assert.That(output.ToString(), Is.EqualTo("one ENough "));
        Assert.That((stops.Text, stops.Found), Is.EqualTo(("one ENough ", true)));
    }

    [Test]
    public void The_same_seed_draws_the_same_text_and_another_seed_another()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        IReadOnlyList<int> Draw(long seed) => new TextGenerator(loaded.Model, new GenerationOptions { MaxNewTokens = 20, Temperature = 1, Seed = seed }).Continue([[1]])[0].OutputIds;
        var first = Draw(3);
        Assert.That(Draw(3), Is.EqualTo(first));
        Assert.That(Draw(4), Is.Not.EqualTo(first));
    }

    [Test]
    public void Min_p_draws_only_from_tokens_near_the_likeliest()
    {
        var sampler = new TokenSampler(new GenerationOptions { Temperature = 1, MinP = 0.3, Seed = 5 }, 0, []);
        var drawn = new HashSet<int>();
        for (var i = 0; i < 400; i++)
        {
            // Shares of the likeliest: 0.1, 1, 0.29, 0.31.
            _ = drawn.Add(sampler.Next([MathF.Log(0.1f), 0, MathF.Log(0.29f), MathF.Log(0.31f)]));
        }

        Assert.That(drawn, Is.EquivalentTo(new[] { 1, 3 }));
    }

    [Test]
    public void A_repetition_penalty_divides_the_scores_of_what_came_and_multiplies_those_below_zero()
    {
        // Token 0 is in the prompt: 3 becomes 1.5, and 2 wins; then 2 becomes 1, and token 0 wins.
        var sampler = new TokenSampler(new GenerationOptions { RepetitionPenalty = 2 }, 0, [0]);
        Assert.That(sampler.Next([3f, 2f, 0.5f]), Is.EqualTo(1));
        Assert.That(sampler.Next([3f, 2f, 0.5f]), Is.Zero);
        var below = new TokenSampler(new GenerationOptions { RepetitionPenalty = 2 }, 0, [0]);
        Assert.That(below.Next([-1f, -1.5f]), Is.EqualTo(1), "-1 becomes -2");
    }
}
