using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Benchmarks;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Tests.Training.Memory;

/// <summary>What ranks hold, against what the papers say.</summary>
public sealed class RankMemoryTests
{
    private const string Llama70B = """{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16", "tie_word_embeddings": false}""";
    private const string Llama8B = """{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16", "tie_word_embeddings": false}""";
    private const long Gigabyte = 1_000_000_000;

    [Test]
    public void A_70b_model_in_nf4_trains_on_four_cards_of_24_gigabytes_with_shared_weights_alone()
    {
        var ranks = Of(Llama70B, 4, static c => c with { Quantization = new QuantizationSection(), Adapter = new AdapterSection { Rank = 16 } });
        Assert.That(ranks.Where(static r => r.FitsInto(24 * Gigabyte)).Select(static r => r.Shard), Is.EqualTo(new[] { "parameters" }));

        // 68.5 billion weights in 4.13 bits, 2.1 billion in 16, and 207 million of the adapter in 32; of the others a quarter, with a layer and the head.
        Assert.That(ranks[0].Weights / (double)Gigabyte, Is.EqualTo(35.3 + 4.2 + 0.8).Within(0.3));
        Assert.That(ranks[3].Weights / (double)Gigabyte, Is.EqualTo(((35.3 + 4.2) / 4) + 0.44 + 2.1 + 0.8).Within(0.1));
    }

    [Test]
    public void An_8b_model_trains_in_full_on_four_cards_of_48_gigabytes()
    {
        var ranks = Of(Llama8B, 4, static c => c with { Adapter = null });
        Assert.That(ranks[3].FitsInto(48 * Gigabyte), $"{ranks[3]}");
        Assert.That(ranks[0].FitsInto(80 * Gigabyte), Is.False);

        // A quarter, the embedding's gradients as they are and in float32, and a layer and the head whole.
        Assert.That((ranks[3].Weights + ranks[3].Gradients + ranks[3].Optimizer) / (double)Gigabyte, Is.EqualTo((8.03 * (2 + 4 + 12) / 4) + (0.525 * 6) + (2 * (0.218 + 0.525))).Within(0.5));

        // 2 bytes of weights, 2 of gradients and 12 of states for each of 8.03 billion: 128 GB.
        Assert.That((ranks[0].Weights + ranks[0].Gradients + ranks[0].Optimizer) / (double)Gigabyte, Is.EqualTo(128.5).Within(1));
        var coded = Of(Llama8B, 4, static c => c with { Adapter = null, Training = c.Training with { Optimizer = "adamw_8bit" } });
        Assert.That(coded[3].Total, Is.LessThan(ranks[3].Total - (8 * Gigabyte)));
    }

    [Test]
    public void Each_kind_shares_out_what_the_last_did_and_something_more()
    {
        foreach (var count in new[] { 2, 3, 8, 64 })
        {
            var ranks = Of(Llama8B, count, static c => c with { Adapter = null });
            Assert.That(ranks.Select(static r => r.Shard), Is.EqualTo(RankMemory.Shards));
            Assert.That(ranks[1].Optimizer, Is.EqualTo(ranks[0].Optimizer / count).Within(1));
            Assert.That((ranks[1].Weights, ranks[1].Gradients), Is.EqualTo((ranks[0].Weights, ranks[0].Gradients)));
            Assert.That((ranks[2].Weights, ranks[2].Optimizer, ranks[3].Gradients), Is.EqualTo((ranks[1].Weights, ranks[1].Optimizer, ranks[2].Gradients)));
            Assert.That(ranks[3].Weights, Is.LessThan(ranks[2].Weights));
        }
    }

    [Test]
    public void What_is_sent_follows_the_formulas_of_zero()
    {
        // P elements in float32 sums: 2P, P and the weights, kP and the weights, kP and k times the weights twice, of embedding and head once.
        var ranks = Of(Llama8B, 4, static c => c with { Adapter = null, Training = c.Training with { GradientAccumulationSteps = 3 } });
        const double Layers = 32 * 218_112_000.0, Ends = (2 * 128256 * 4096) + 4096.0;
        double[] expected = [8 * (Layers + Ends), 6 * (Layers + Ends), (3 * 4 * (Layers + Ends)) + (2 * (Layers + Ends)), (3 * (4 + (2 * 2)) * Layers) + (3 * (4 + 2) * Ends)];
        Assert.That(ranks.Select(static r => (double)r.Sent), Is.EqualTo(expected.Select(static e => e * 3 / 4)).Within(0.1).Percent);
    }

    [Test]
    public void An_embedding_that_is_the_head_is_gathered_twice_and_its_gradient_sent_once()
    {
        var (tied, untied) = (Of(Llama8B.Replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", StringComparison.Ordinal), 4, static c => c with { Adapter = null }), Of(Llama8B, 4, static c => c with { Adapter = null }));
        const double Head = 128256 * 4096;
        Assert.That(untied[3].Sent - tied[3].Sent, Is.EqualTo(4 * Head * 3 / 4).Within(0.1).Percent);
        Assert.That(untied[3].Weights - tied[3].Weights, Is.EqualTo(2 * Head / 4).Within(0.1).Percent);

        // Both pass the largest gradient, that of the embedding, as it is and as it is summed.
        Assert.That(untied[3].Gradients - tied[3].Gradients, Is.EqualTo(4 * Head / 4).Within(0.1).Percent);
    }

    [Test]
    public void A_simulated_step_is_the_longer_of_computing_and_sending_and_their_beginning()
    {
        SimulatedLayer[] layers = [.. Enumerable.Repeat(new SimulatedLayer(100, 200, 1, 2), 10)];
        Assert.That(ScalingSimulation.Of(layers, 1, "parameters", 1, new SimulatedLink(1, 1)), Is.EqualTo(new SimulatedStep(30, 30, 0)));

        // A fast link: only the first layer's weights and the last sum are waited for.
        var fast = ScalingSimulation.Of(layers, 2, "parameters", 1, new SimulatedLink(1000, 0));
        Assert.That((fast.Seconds, fast.SentBytes), Is.EqualTo((30 + 0.05 + 0.1, 10 * (50 + 100) + (9 * 50) + 0.0)).Within(1e-9));

        // A slow one: it sends all the time, except while the first layer of backward computes.
        var slow = ScalingSimulation.Of(layers, 2, "parameters", 1, new SimulatedLink(1, 0));
        Assert.That(slow.Seconds, Is.EqualTo(slow.SentBytes).Within(5));
        Assert.That(fast.Efficiency, Is.GreaterThan(0.99));
    }

    private static IReadOnlyList<RankMemory> Of(string config, int ranks, Func<RunConfig, RunConfig> change)
    {
        using var folder = new TemporaryFolder();
        _ = Directory.CreateDirectory(folder.At("model"));
        _ = folder.Write("model/config.json", config);
        var run = change(new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = "cpu" },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], MaxLength = 2048 },
            Training = new TrainingSection { MicroBatchSize = 1 },
        });
        return RunMemory.OfLongest(run, folder.At("model")).OfRanks(ranks, onGpu: true);
    }
}
