using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>What must hold for every family, whatever its options.</summary>
[Category(TestDevice.Parity)]
[TestFixtureSource(typeof(FamilyCases), nameof(FamilyCases.Names))]
public sealed class FamilyTests(string name)
{
    private static readonly int[][] s_documents =
        [[5, 9, 2, 7, 7, 31, 12, 8, 1, 30, 22], [1, 3], [38, 4, 30, 2, 2, 9, 11, 16, 17]];

    [Test]
    public void Packed_documents_have_the_logits_and_gradients_of_the_documents_alone()
    {
        using var model = FamilyCases.Make(name);
        TrainAll(model);
        using var scope = NewDisposeScope();
        int[] all = [.. s_documents.SelectMany(static d => d)];
        var batch = TokenBatch.Of([new TokenRow(all, all, [.. s_documents.Select(static d => d.Length)], "packed"), new TokenRow([1, 2, 3, 4], [1, 2, 3, 4], "other")], padId: 0, TestDevice.Current);
        var packed = model.Logits(model.call(batch.Input));
        var start = 0;
        foreach (var document in s_documents)
        {
            using var nothing = no_grad();
            Assert.That(Golden.LargestDifference(packed.narrow(0, 0, 1).narrow(1, start, document.Length), Alone(model, document)), Is.LessThan(5e-5));
            start += document.Length;
        }

        new SupervisedObjective().LossSum(model, batch).backward();
        var together = model.named_parameters().Select(static p => p.parameter.grad!.clone()).ToList();
        model.zero_grad();
        foreach (var document in s_documents.Append([1, 2, 3, 4]))
        {
            new SupervisedObjective().LossSum(model, TokenBatch.Of([new TokenRow(document, document, "alone")], padId: 0, TestDevice.Current)).backward();
        }

        foreach (var ((parameter, alone), packedGradient) in model.named_parameters().Zip(together))
        {
            Assert.That(Golden.LargestDifference(packedGradient, alone.grad!), Is.LessThan(1e-4 * Math.Max(1, alone.grad!.norm().ToDouble())), parameter);
        }
    }

    [Test]
    public void Logits_from_a_cache_are_those_of_the_whole_text()
    {
        using var model = FamilyCases.Make(name);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        int[] ids = [.. Enumerable.Range(0, 90).Select(static i => i * 37 % FamilyCases.Vocabulary)];

        var cache = new DecoderCache();
        var read = 0;
        foreach (var added in new[] { 3, 1, 1, 1, 4, 1, 20, 1, 1, 2, 24, 1, 29, 1 })
        {
            read += added;
            if (!model.Stack.Continues(cache, read - 1))
            {
                Assert.That(model.Config.Rope.DependsOnLength, "only such a family reads a text anew");
                cache.Dispose();
                cache = new DecoderCache();
            }

            var (past, part) = (cache.Length, read - cache.Length);
            var input = new ModelInput
            {
                InputIds = tensor([.. ids[past..(past + part)].Select(static i => (long)i)], [1, part], device: TestDevice.Current),
                PositionIds = arange(past, past + part, int64, TestDevice.Current).unsqueeze(0),
                LongestPosition = past + part - 1,
                Cache = cache,
            };
            var logits = model.Logits(model.call(input));
            var whole = Alone(model, ids[..(past + part)]);
            Assert.That(Golden.LargestDifference(logits, whole.narrow(1, past, part)), Is.LessThan(1e-4), $"{part} tokens after {past}");
        }

        cache.Dispose();
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Prompts_padded_at_their_left_go_on_as_each_does_alone()
    {
        using var model = FamilyCases.Make(name);
        int[][] prompts = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [3], [20, 2, 4, 33, 1, 9]];
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = 12 });
        if (model.Config.Rope.DependsOnLength)
        {
            // As in the reference, the longest text of a batch decides; texts of one length decide alike.
            prompts = [[5, 6, 7, 8], [3, 1, 2, 30]];
        }

        var together = generator.Continue(prompts);
        for (var i = 0; i < prompts.Length; i++)
        {
            Assert.That(together[i].OutputIds, Is.EqualTo(generator.Continue([prompts[i]])[0].OutputIds), $"prompt {i}");
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Layers_computed_again_in_backward_have_the_same_gradients()
    {
        using var model = FamilyCases.Make(name);
        using var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 2, Dropout = model.ExpertMatrices.Count > 0 ? 0 : 0.3 }, seed: 1);
        adapter.Training = true;
        TakeEffect(adapter);

        using var scope = NewDisposeScope();
        var gradients = new List<List<Tensor>>();
        foreach (var checkpointing in Enum.GetValues<ActivationCheckpointing>())
        {
            _ = manual_seed(3);
            model.Stack.ActivationCheckpointing = checkpointing;
            new SupervisedObjective().LossSum(model, TokenBatch.Of([.. s_documents.Select(static d => new TokenRow(d, d, "row"))], padId: 0, TestDevice.Current)).backward();
            gradients.Add([.. adapter.Parameters.Select(static p => p.Parameter.grad!.clone())]);
            foreach (var (_, parameter) in adapter.Parameters)
            {
                parameter.grad = null;
            }
        }

        foreach (var again in gradients[1..])
        {
            foreach (var ((parameter, plain), computed) in adapter.Parameters.Zip(gradients[0]).Zip(again))
            {
                Assert.That(Golden.LargestDifference(computed, plain), Is.LessThan(1e-6 * Math.Max(1, plain.norm().ToDouble())), parameter.Name);
            }
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void A_merged_folder_has_the_checkpoints_names_and_the_adapters_logits()
    {
        using var folder = new TemporaryFolder();
        var path = FamilyCases.Write(folder, name);
        using var loaded = ModelLoader.Load(path, float32, TestDevice.Current);
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2 }, seed: 1);
        TakeEffect(adapter);
        PeftFolder.Save(adapter, folder.At("adapter"), path);
        MergedExport.Write(loaded, adapter, folder.At("merged"), dtype: null, maxShardBytes: 1L << 30);
        var (difference, largest, _, _, _) = MergedExport.Verify(loaded, folder.At("merged"));
        Assert.That(difference, Is.LessThan(1e-4 * largest));
        using var before = CheckpointWeights.Open(path);
        using var after = CheckpointWeights.Open(folder.At("merged"));
        Assert.That(after.Tensors.Select(static t => t.Name), Is.EquivalentTo(before.Tensors.Select(static t => t.Name)));
        Assert.That(loaded.Model.StoredTensors.Select(static t => t.Name), Is.EquivalentTo(before.Tensors.Select(static t => t.Name)));
        using var again = ModelLoader.Load(path, float32, TestDevice.Current);
        using var reread = PeftFolder.Load(again.Model, folder.At("adapter"));
        Assert.That(reread.Parameters.Select(static p => p.Name), Is.EqualTo(adapter.Parameters.Select(static p => p.Name)));
        if (again.Model.ExpertMatrices.Count == 0)
        {
            Assert.That(reread.Layers.Select(static l => l.Module), Is.EqualTo(loaded.Model.LinearLayers.Where(static l => l.Layer.TakesAdapters).Select(static l => l.Name).Where(static n => n != "lm_head")));
        }
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void A_step_leaves_no_tensor_behind()
    {
        using var model = FamilyCases.Make(name);
        TrainAll(model);
        long After()
        {
            using (NewDisposeScope())
            {
                new SupervisedObjective().LossSum(model, TokenBatch.Of([new TokenRow(s_documents[0], s_documents[0], "row")], padId: 0, TestDevice.Current)).backward();
                model.parameters().ToList().ForEach(static p => p.grad = null);
                _ = new TextGenerator(model, new GenerationOptions { MaxNewTokens = 3 }).Continue(s_documents);
            }

            return TestDevice.LiveTensors;
        }

        _ = After();
        var first = After();
        Assert.That(After(), Is.LessThanOrEqualTo(first));
    }

    /// <summary>
    /// What bfloat16 costs by the count of its roundings. Each is of half a unit in the eighth bit, of the weights as of what is computed with
    /// them, and they add up as random numbers do: in squares. Between two norms at most eight matrices are multiplied by, and at most as many
    /// results again and those of the elementwise work between them (norms, rotation, probabilities, gate, sums) are rounded, 24 in all for
    /// each 8 of the weights; so the whole is at most twice, the square root of (24 + 8) / 8, what rounding the weights alone gives.
    /// </summary>
    [Test]
    [Category(TestDevice.CpuAlone)]
    public void Bfloat16_logits_are_off_by_at_most_twice_what_rounded_weights_alone_cost()
    {
        using var folder = new TemporaryFolder();
        var path = FamilyCases.Write(folder, name);
        using var full = ModelLoader.Load(path, float32, TestDevice.Current);
        using var half = ModelLoader.Load(path, bfloat16, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Tensor Logits(LoadedModel loaded) => cat([.. s_documents.Select(document => Alone(loaded.Model, document).view(-1).to(float64))]);
        var expected = Logits(full);
        var computed = Logits(half).sub(expected).norm().ToDouble();
        foreach (var parameter in full.Model.parameters())
        {
            _ = parameter.copy_(parameter.to(bfloat16));
        }

        var rounded = Logits(full).sub(expected).norm().ToDouble();
        TestContext.Out.WriteLine($"{name}: {computed / rounded:0.00} times, {computed / expected.norm().ToDouble():0.0%} of the logits");

        // A ratio of two norms of as few random numbers as there are tokens, by which whole rows are off, spreads by 1 / sqrt(2 tokens).
        var spread = 1 + (3 / Math.Sqrt(2 * s_documents.Sum(static d => d.Length)));
        Assert.That(computed, Is.GreaterThan(0).And.LessThan(2 * spread * rounded));
    }

    [Test]
    [Category(TestDevice.CpuAlone)]
    public void The_memory_estimate_counts_the_weights()
    {
        using var folder = new TemporaryFolder();
        using var training = new FullTraining(ModelLoader.Load(FamilyCases.Write(folder, name), float32, TestDevice.Current), decayNormsAndBiases: false);
        var estimate = MemoryEstimate.Of(training, rows: 2, tokens: 32, optimizerBytes: 0, accumulates: false, ActivationCheckpointing.None);
        Assert.That(estimate.Weights, Is.EqualTo(4 * training.Model.parameters().Sum(static p => p.numel())));
        Assert.That(estimate.Activations, Is.GreaterThan(MemoryEstimate.Of(training, rows: 2, tokens: 32, optimizerBytes: 0, accumulates: false, ActivationCheckpointing.Block).Activations));
    }

    private static Tensor Alone(CausalLanguageModel model, int[] ids) =>
        model.Logits(model.call(ModelInput.Rows(tensor([.. ids.Select(static i => (long)i)], [1, ids.Length], device: TestDevice.Current))));

    private static void TrainAll(CausalLanguageModel model)
    {
        foreach (var parameter in model.parameters())
        {
            parameter.requires_grad = true;
        }
    }

    private static void TakeEffect(PeftAdapter adapter)
    {
        using var nothing = no_grad();
        adapter.Parameters.Where(static p => p.Name.EndsWith(".lora_B.weight", StringComparison.Ordinal)).ToList().ForEach(static p => p.Parameter.normal_(0, 0.1));
    }
}
