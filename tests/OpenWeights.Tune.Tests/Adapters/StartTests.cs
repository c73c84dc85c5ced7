using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>The initializations of PEFT 0.21: the start, five steps of training, PEFT's folders and their conversion to plain LoRA.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class StartTests
{
    private const string Set = "adapters2026";

    private static IEnumerable<string> Cases => Peft2026Tests.Present(static n => n.StartsWith("init_", StringComparison.Ordinal));

    private static IEnumerable<string> Converted => Cases.Where(static n => SharedFiles.Find("goldens", Set, n, "converted_lora") is not null);

    private static IEnumerable<string> Repeatable => Cases.Where(static n => !IsRandom(n));

    // These are drawn at random, by torch's generator after other draws.
    private static bool IsRandom(string name) => name is "init_orthogonal";

    private static bool IsRandomized(string name) => name is "init_pissa_niter_4" || name.StartsWith("init_lora_ga", StringComparison.Ordinal);

    [TestCaseSource(nameof(Cases))]
    public void The_first_product_of_B_and_A_is_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var adapter = PeftAdapter.Create(loaded.Model, Config(golden), seed: 1, Data(golden));
        using var initial = SafetensorsFile.Open(Path.Combine(golden.Folder, "initial", "adapter_model.safetensors"));
        foreach (var layer in adapter.Layers)
        {
            var (a, b) = (Read(initial, $"{layer.Module}.lora_A.weight"), Read(initial, $"{layer.Module}.lora_B.weight"));
            Assert.That((layer.A.shape, layer.B.shape), Is.EqualTo((a.shape, b.shape)), layer.Module);
            Assert.That(layer.Scale, Is.EqualTo(golden.Json["scaling"]![layer.Module]!.GetValue<double>()).Within(1e-6), layer.Module);
            if (IsRandom(name))
            {
                Assert.That(layer.B.mm(layer.A).abs().max().ToDouble(), Is.LessThan(1e-5));
                continue;
            }

            // Randomized decompositions are near PEFT's; of a gradient's the signs of A's and B's vectors are free.
            var allowed = IsRandomized(name) ? 0.02 : 1e-4;
            if (golden.Json["init"]!.ToString() is "lora_ga")
            {
                Near(layer.A.t().mm(layer.A), a.t().mm(a), allowed, layer.Module);
                Near(layer.B.mm(layer.B.t()), b.mm(b.t()), allowed, layer.Module);
            }
            else if (IsRandomized(name))
            {
                using Scalar scale = layer.Scale;
                var (ours, theirs) = (layer.Target.Weight.sub(layer.B.mm(layer.A).mul(scale)).norm().ToDouble(), layer.Target.Weight.sub(b.mm(a).mul(scale)).norm().ToDouble());
                Assert.That(ours, Is.EqualTo(theirs).Within(2).Percent, "as much of the weight is left");
            }
            else
            {
                Near(layer.B.mm(layer.A), b.mm(a), allowed, layer.Module);
                Near(layer.A.t().mm(layer.A), a.t().mm(a), allowed, layer.Module);
            }
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void The_start_gives_PEFTs_logits(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var plain = Logits(golden, loaded);
        using var adapter = PeftAdapter.Create(loaded.Model, Config(golden), seed: 1, Data(golden));
        var expected = golden.Tensors.TryGetTensor("init.logits", out _) ? golden.Tensor("init.logits") : plain;
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), expected), Is.LessThan(5e-5));
    }

    [TestCaseSource(nameof(Repeatable))]
    public void Five_steps_give_PEFTs_losses_and_logits(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftAdapter.Create(loaded.Model, Config(golden), seed: 1, Data(golden));
        Assert.That(adapter.Parameters.Sum(static p => p.Parameter.numel()), Is.EqualTo(golden.Json["trainable"]!.GetValue<long>()));
        if (IsRandomized(name))
        {
            TakeStart(golden, adapter);
        }

        Assert.That(Train(golden, loaded, adapter), Is.EqualTo(Losses(golden)).Within(2e-4));
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), golden.Tensor("trained.logits")), Is.LessThan(2e-3));
    }

    [TestCaseSource(nameof(Cases))]
    public void A_trained_adapter_that_was_not_converted_is_read_with_its_start(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "trained"));
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), golden.Tensor("trained.logits")), Is.LessThan(5e-5));
    }

    [TestCaseSource(nameof(Converted))]
    public void What_was_not_converted_is_written_as_PEFT_converts_it(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using (var trained = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "trained")))
        {
            PeftFolder.Save(trained, work.At("plain"), null);
        }

        using var ours = PeftFolder.Load(loaded.Model, work.At("plain"));
        Assert.That(Golden.LargestDifference(Logits(golden, loaded), golden.Tensor("trained.logits")), Is.LessThan(5e-5));
        ours.Enabled = false;
        using var theirs = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "converted_lora"));
        var (own, other) = ((LoraConfig)ours.Config, (LoraConfig)theirs.Config);
        Assert.That((own.Rank, own.Alpha, own.Init), Is.EqualTo((other.Rank, other.Alpha, other.Init)));
        foreach (var (layer, expected) in ours.Layers.Zip(theirs.Layers))
        {
            Assert.That(Golden.LargestDifference(layer.Delta(), expected.Delta()), Is.LessThan(3e-5), layer.Module);
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void A_checkpoint_of_a_started_adapter_is_restored_to_the_bit(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var work = new TemporaryFolder();
        using var adapter = PeftAdapter.Create(loaded.Model, Config(golden), seed: 1, Data(golden));
        _ = Train(golden, loaded, adapter, steps: 2);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var before = Logits(golden, loaded);
        PeftFolder.Save(adapter, work.At("checkpoint"), null);
        foreach (var (_, parameter) in adapter.Parameters)
        {
            _ = parameter.zero_();
        }

        PeftFolder.Restore(adapter, work.At("checkpoint"));
        Assert.That(Logits(golden, loaded).eq(before).all().item<bool>());
    }

    private static void Near(Tensor actual, Tensor expected, double allowed, string what) =>
        Assert.That(Golden.LargestDifference(actual, expected), Is.LessThan(allowed * Math.Max(1, expected.abs().max().ToDouble())), what);

    // What PEFT drew, to train from the same values.
    private static void TakeStart(Golden golden, PeftAdapter adapter)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var initial = SafetensorsFile.Open(Path.Combine(golden.Folder, "initial", "adapter_model.safetensors"));
        foreach (var layer in adapter.Layers)
        {
            var (a, b) = (Read(initial, $"{layer.Module}.lora_A.weight"), Read(initial, $"{layer.Module}.lora_B.weight"));
            foreach (var (target, value) in new (Tensor, Tensor)[] { (layer.A, a), (layer.B, b), (layer.Start!.Value.A, a), (layer.Start!.Value.B, b) })
            {
                _ = target.copy_(value);
            }
        }
    }

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, CPU);

    // The settings as they were given to PEFT; EVA writes the ranks that it found over those.
    private static LoraConfig Config(Golden golden)
    {
        var made = golden.Json["config_as_made"]!.DeepClone().AsObject();
        made["peft_type"] = "LORA";
        if (made["init_lora_weights"]!.ToString() == "eva")
        {
            made["rank_pattern"] = new JsonObject();
            made["alpha_pattern"] = new JsonObject();
            made["target_modules"] = new JsonArray([.. golden.Json["scaling"]!.AsObject().Select(static s => (JsonNode)s.Key[(s.Key.LastIndexOf('.') + 1)..]).DistinctBy(static n => n.ToString())]);
        }

        return PeftConfig.Read(made, "config_as_made", out _);
    }

    private static GoldenData? Data(Golden golden) => golden.Json["init"]!.ToString() is "eva" or "corda" or "lora_ga" ? new GoldenData(golden) : null;

    private static Tensor Read(SafetensorsFile file, string name) => TensorFiles.Read(file, "base_model.model." + name);

    private static Tensor Logits(Golden golden, LoadedModel loaded) => loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(Golden.Ids(golden.Json["batch"]!["input_ids"]!))));

    private static IEnumerable<double> Losses(Golden golden) => golden.Json["sgd"]!["losses"]!.AsArray().Select(static l => l!.GetValue<double>());

    private static List<double> Train(Golden golden, LoadedModel loaded, PeftAdapter adapter, int steps = 5)
    {
        var labels = Golden.Ids(golden.Json["batch"]!["labels"]!);
        using Scalar rate = -golden.Json["sgd"]!["lr"]!.GetValue<double>();
        var losses = new List<double>();
        for (var i = 0; i < steps; i++)
        {
            using var scope = NewDisposeScope();
            var loss = Golden.Loss(Logits(golden, loaded), labels);
            losses.Add(loss.ToDouble());
            loss.backward();
            using var nothing = no_grad();
            foreach (var (_, parameter) in adapter.Parameters)
            {
                _ = parameter.add_(parameter.grad!, rate);
                _ = parameter.grad!.zero_();
            }
        }

        return losses;
    }

    /// <summary>The batches that the reference used.</summary>
    private sealed class GoldenData : StartData
    {
        private readonly Golden _golden;
        private readonly string? _name;

        internal GoldenData(Golden golden)
        {
            _golden = golden;
            _name = golden.Json["init"]!.ToString() is "lora_ga" ? null : golden.Json["init"]!.ToString();
            Count = _name is null ? 1 : (int)golden.Tensors.GetTensor($"{_name}.input_ids").Shape[0];
        }

        public override int Count { get; }

        public override StartBatch Batch(int index)
        {
            var ids = _name is null ? Golden.Ids(_golden.Json["batch"]!["input_ids"]!) : _golden.Tensor($"{_name}.input_ids")[index];
            var mask = _name is "eva" ? _golden.Tensor("eva.attention_mask")[index] : ones_like(ids);
            var places = mask.view(-1).nonzero().view(-1);
            var width = ids.size(1);
            return new StartBatch
            {
                Input = ModelInput.Rows(ids),
                Tokens = places,
                Labelled = places,
                Rows = [.. Enumerable.Range(0, (int)ids.size(0)).Select(i => (i * width, mask[i].sum().ToInt64()))],
                Loss = model => Golden.Loss(model.Logits(model.call(ModelInput.Rows(ids))), Golden.Ids(_golden.Json["batch"]!["labels"]!)),
            };
        }
    }
}
