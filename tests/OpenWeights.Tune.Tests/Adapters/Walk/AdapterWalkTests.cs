using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Tests.Models.Families;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters.Walk;

/// <summary>
/// A random walk over the settings of each kind of adapter (ranks, blocks, targets, layers, patterns, biases) on models of random sizes, in float64: what is
/// saved is read again, and outputs, merged weights and slopes are those of the formulas.
/// </summary>
[Category(TestDevice.CpuAlone)]
public sealed class AdapterWalkTests
{
    private const int Vocabulary = 19;
    private const int ConfigurationsOfEach = 20;

    private static IEnumerable<string> Kinds => AdapterDraws.Kinds;

    [TestCaseSource(nameof(Kinds))]
    public void Outputs_merged_weights_and_slopes_are_those_of_the_formulas(string kind)
    {
        for (var seed = 0; seed < ConfigurationsOfEach; seed++)
        {
            using var scope = NewDisposeScope();
            Compare(kind, seed);
        }
    }

    private static void Compare(string kind, int seed)
    {
        var random = new Random((seed * 1000) + kind.Length);
        var (json, tied) = kind == AdapterDraws.OnExperts ? (Mixture(random), false) : Model(random);
        using var source = new WideSource((ulong)seed + 1);
        using var model = new CausalLanguageModel(FamilyRegistry.Read(json, "config.json"), source);
        var config = new AdapterDraws(random, model).Of(kind);
        using var folder = new TemporaryFolder();
        using (var made = PeftAdapter.Create(model, config, seed))
        {
            Fill(made, random);
            PeftFolder.Save(made, folder.At("adapter"), "base");
        }

        var weights = Weights(model);
        if (config is AdaloraConfig && random.Next(2) == 0)
        {
            TakeRanksAway(folder, random);
        }

        using var adapter = PeftFolder.Load(model, folder.At("adapter"));
        var settings = AdapterFolder.Open(folder.At("adapter")).Config;
        var name = $"seed {seed}: {json.ToJsonString()}\n{settings.ToJsonString()}";
        using var stored = AdapterFolder.Open(folder.At("adapter")).OpenWeights();
        var file = stored.Tensors.ToDictionary(static t => t.Name.Replace("base_model.model.", "", StringComparison.Ordinal), t => Read(TensorFiles.Read(stored, t.Name)));
        var merged = new AdapterDefinition(settings, file, weights, [.. model.LinearLayers.Select(static l => l.Name)], json["model_type"]!.ToString() == "gpt_oss").Merged();
        using (no_grad())
        {
            foreach (var (tensor, expected) in merged.Where(m => weights.ContainsKey(m.Key)))
            {
                var weight = torch.tensor(weights[tensor].Values, weights[tensor].Shape);
                var isChanged = adapter.ChangedTensors.Contains(tensor);
                var actual = Doubles(!isChanged ? weight : weight.ndim == 3 ? stack(Enumerable.Range(0, (int)weight.size(0)).Select(e => adapter.MergedExpert(tensor, e, weight.select(0, e))).ToArray()) : adapter.Merged(tensor, weight));
                Assert.That(actual.Zip(expected, static (a, e) => Math.Abs(a - e)).Max(), Is.LessThan(1e-6 * Math.Max(1, expected.Max(Math.Abs))), $"{tensor} of {name}");
            }
        }

        var ids = ModelInput.Rows(torch.tensor([.. Enumerable.Range(0, 10).Select(_ => (long)random.Next(Vocabulary))], [2, 5]));
        var logits = model.Logits(model.call(ids));
        using var second = new WideSource((ulong)seed + 1);
        using var other = new CausalLanguageModel(FamilyRegistry.Read(Untied(json, tied, adapter), "config.json"), second);
        Set(other, merged, weights["model.embed_tokens.weight"].Values);
        var wanted = other.Logits(other.call(ids));
        Assert.That((logits - wanted).abs().max().ToDouble(), Is.LessThan(1e-6 * Math.Max(1, wanted.abs().max().ToDouble())), name);
        Slope(model, adapter, ids, random, name);
    }

    // The sum of the logits with random weights changes along a random direction as its gradients say.
    private static void Slope(CausalLanguageModel model, PeftAdapter adapter, ModelInput ids, Random random, string name)
    {
        var given = Random(random, 2, 5, Vocabulary);
        Tensor Sum() => (model.Logits(model.call(ids)) * given).sum();
        foreach (var (_, parameter) in adapter.Parameters)
        {
            parameter.grad = null;
        }

        Sum().backward();

        // coft moves the parameters themselves, and DoRA's gradient takes its norms as constants.
        if (adapter.Config is OftConfig { Coft: true } or LoraConfig { UseDora: true })
        {
            return;
        }

        const double Step = 1e-6;
        using var nothing = no_grad();
        var slope = 0.0;
        var ways = adapter.Parameters.Select(p => (p.Parameter, Way: Random(random, p.Parameter.shape))).ToList();
        foreach (var (parameter, way) in ways)
        {
            slope += parameter.grad is { } gradient ? (gradient * way).sum().ToDouble() : 0;
        }

        double Along(double step)
        {
            ways.ForEach(w => w.Parameter.add_(w.Way, step));
            adapter.Training = true;
            adapter.Training = false;
            var sum = Sum().ToDouble();
            ways.ForEach(w => w.Parameter.add_(w.Way, -step));
            return sum;
        }

        var expected = (Along(Step) - Along(-Step)) / (2 * Step);
        Assert.That(slope, Is.EqualTo(expected).Within(1e-4 * Math.Max(1, Math.Abs(expected))), $"slope of {name}");
    }

    // Values that leave nothing out, near those that change nothing where the kind multiplies.
    private static void Fill(PeftAdapter adapter, Random random)
    {
        using var nothing = no_grad();
        foreach (var (name, parameter) in adapter.Parameters)
        {
            var isFactor = name.EndsWith("ia3_l", StringComparison.Ordinal) || name.EndsWith("boft_s", StringComparison.Ordinal) || name.EndsWith("magnitude_vector", StringComparison.Ordinal);
            _ = parameter.copy_(Random(random, parameter.shape).mul(0.5).add(isFactor ? 1 : 0));
        }
    }

    private static (JsonObject Json, bool Tied) Model(Random random)
    {
        var (heads, groups, width) = (2, random.Next(1, 3), 2 * random.Next(1, 5));
        var tied = random.Next(3) == 0;
        return (new JsonObject
        {
            ["model_type"] = "llama",
            ["hidden_size"] = 4 * random.Next(1, 7),
            ["intermediate_size"] = 2 * random.Next(2, 14),
            ["num_attention_heads"] = heads,
            ["num_key_value_heads"] = groups,
            ["head_dim"] = width,
            ["num_hidden_layers"] = random.Next(1, 4),
            ["vocab_size"] = Vocabulary,
            ["max_position_embeddings"] = 32,
            ["attention_bias"] = random.Next(2) == 0,
            ["mlp_bias"] = random.Next(2) == 0,
            ["tie_word_embeddings"] = tied,
        }, tied);
    }

    private static JsonObject Mixture(Random random)
    {
        var (family, groups, experts) = (new[] { "qwen3_moe", "mixtral", "gpt_oss" }[random.Next(3)], random.Next(1, 3), random.Next(2, 5));
        var json = new JsonObject
        {
            ["model_type"] = family,
            ["hidden_size"] = 4 * random.Next(1, 5),
            ["intermediate_size"] = random.Next(2, 9),
            ["num_attention_heads"] = 2,
            ["num_key_value_heads"] = groups,
            ["head_dim"] = 2 * random.Next(1, 4),
            ["num_hidden_layers"] = random.Next(1, 3),
            ["vocab_size"] = Vocabulary,
            ["max_position_embeddings"] = 32,
            [family == "qwen3_moe" ? "num_experts" : "num_local_experts"] = experts,
            ["num_experts_per_tok"] = random.Next(1, experts + 1),
            ["rope_parameters"] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = 100.0 },
            ["tie_word_embeddings"] = false,
        };
        if (family == "qwen3_moe")
        {
            json["moe_intermediate_size"] = random.Next(2, 9);
        }

        return json;
    }

    // Embedding and head that were one become two where only one of them is adapted.
    private static JsonObject Untied(JsonObject json, bool tied, PeftAdapter adapter)
    {
        var own = json.DeepClone().AsObject();
        if (tied && !adapter.KeepsTie && adapter.Parts.Any(static p => p.Module is "model.embed_tokens" or "lm_head"))
        {
            own["tie_word_embeddings"] = false;
        }

        return own;
    }

    private static void Set(CausalLanguageModel model, IReadOnlyDictionary<string, double[]> values, double[] tiedHead)
    {
        using var nothing = no_grad();
        foreach (var (name, parameter) in model.StoredTensors.Select(static t => (t.Name, t.Tensor)))
        {
            var own = name == "lm_head.weight" ? values.GetValueOrDefault(name) ?? tiedHead : values[name];
            _ = parameter.copy_(torch.tensor(own, parameter.shape));
        }
    }

    private static Dictionary<string, Tensor64> Weights(CausalLanguageModel model) => model.StoredTensors.ToDictionary(static t => t.Name, static t => Read(t.Tensor));

    private static Tensor64 Read(Tensor values) => new(values.shape, Doubles(values));

    private static double[] Doubles(Tensor values) => MemoryMarshal.Cast<byte, double>(values.detach().to(float64).contiguous().bytes).ToArray();

    private static Tensor Random(Random random, params long[] shape) => torch.tensor([.. Enumerable.Range(0, (int)shape.Aggregate(1L, static (a, b) => a * b)).Select(_ => (2 * random.NextDouble()) - 1)], shape);

    // As in a file that AdaLoRA's schedule has left.
    private static void TakeRanksAway(TemporaryFolder folder, Random random)
    {
        using var scope = NewDisposeScope();
        var settings = AdapterFolder.Open(folder.At("adapter")).Config;
        Directory.Move(folder.At("adapter"), folder.At("whole"));
        using var file = SafetensorsFile.Open(folder.At("whole", "adapter_model.safetensors"));
        var kept = new JsonObject();
        var tensors = new List<TensorToWrite>();
        foreach (var name in file.Tensors.Select(static t => t.Name))
        {
            var at = name.LastIndexOf(".lora_", StringComparison.Ordinal);
            if (at < 0)
            {
                tensors.Add(TensorToWrite.FromSource(file, name));
                continue;
            }

            var key = $"{name[..at].Replace("base_model.model.", "", StringComparison.Ordinal)}.lora_E";
            var ranks = (int)settings["init_r"]!;
            if (kept[key] is null)
            {
                kept[key] = new JsonArray([.. Enumerable.Range(0, ranks).Select(r => (JsonNode)(r == 0 || random.Next(2) == 0))]);
            }

            long[] left = [.. Enumerable.Range(0, ranks).Where(r => (bool)kept[key]![r]!).Select(static r => (long)r)];
            tensors.Add(TensorFiles.ToWrite(name, TensorFiles.Read(file, name).index_select(name.EndsWith("lora_B", StringComparison.Ordinal) ? 1 : 0, torch.tensor(left, [left.Length])).contiguous()));
        }

        settings["rank_pattern"] = kept;
        AdapterFolder.Write(folder.At("adapter"), settings, tensors);
    }

    /// <summary>The weights of <see cref="VariedWeightSource"/> in float64.</summary>
    private sealed class WideSource(ulong seed) : IWeightSource, IDisposable
    {
        private readonly VariedWeightSource _source = new(seed);

        public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
        {
            using var scope = NewDisposeScope();
            using var narrow = _source.Take(name, initial, shape);
            var parameter = new Parameter(narrow.detach().to(float64), requires_grad: false);
            _ = parameter.DetachFromDisposeScope();
            return parameter;
        }

        public void Dispose() => _source.Dispose();
    }
}
