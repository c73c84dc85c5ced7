using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Adapters on the experts of mixtures, against PEFT 0.21's logits, gradients, merged weights and files.</summary>
[Category(TestDevice.Parity)]
public sealed class ExpertAdapterTests
{
    private const string Set = "adapters2026";

    private static readonly string[] s_files =
    [
        "lora_all_linear_qwen3moe", "lora_params_qwen3moe", "lora_params_one_qwen3moe", "lora_params_modules_qwen3moe", "lora_params_rank_pattern_qwen3moe", "lora_params_router_qwen3moe",
        "lora_params_gptoss", "lora_params_one_gptoss", "lora_params_modules_gptoss", "lora_params_rank_pattern_gptoss", "lora_params_router_gptoss",
    ];

    private static readonly string[] s_expertByExpert = ["lora_v4_experts_mixtral", "lora_v4_experts_qwen3moe"];

    [TestCaseSource(nameof(s_files))]
    public void Logits_gradients_and_merged_weights_are_PEFTs(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var scope = NewDisposeScope();
        var logits = Logits(golden, loaded.Model);
        Assert.That(Golden.LargestDifference(logits, golden.Tensor("full.logits")), Is.LessThan(3e-5 * TestDevice.Slack));
        var run = golden.Json["runs"]!["full"]!;
        Golden.Loss(logits, Golden.Ids(run["labels"]!)).backward();
        var norms = run["grad_norms"]!.AsObject();
        Assert.That(adapter.Parameters.Select(static p => p.Name), Is.EquivalentTo(norms.Select(static n => FileName(n.Key))));
        foreach (var (key, norm) in norms)
        {
            var gradient = adapter.Parameters.First(p => p.Name == FileName(key)).Parameter.grad!;
            Assert.That(gradient.norm().ToDouble(), Is.EqualTo(norm!.GetValue<double>()).Within(1e-5 * Math.Max(1, norm.GetValue<double>()) * TestDevice.Slack), key);
            if (golden.Tensors.TryGetTensor($"full.grad.{key}", out _))
            {
                Assert.That(Golden.LargestDifference(gradient, golden.Tensor($"full.grad.{key}")), Is.LessThan(1e-5 * Math.Max(1, norm.GetValue<double>()) * TestDevice.Slack), key);
            }
        }

        CompareMerged(golden, loaded, adapter);
    }

    [TestCaseSource(nameof(s_files))]
    public void A_saved_adapter_has_the_tensors_of_PEFTs_file(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var folder = new TemporaryFolder();
        PeftFolder.Save(adapter, folder.At("again"), null);
        using var before = SafetensorsFile.Open(Path.Combine(golden.Folder, "adapter_model.safetensors"));
        using var after = SafetensorsFile.Open(folder.At("again/adapter_model.safetensors"));
        Assert.That(after.Tensors.Select(static t => t.Name), Is.EquivalentTo(before.Tensors.Select(static t => t.Name)));
        foreach (var entry in before.Tensors)
        {
            Assert.That(after.ReadBytes(entry.Name), Is.EqualTo(before.ReadBytes(entry.Name)), entry.Name);
        }

        var (was, now) = (Config(golden.Folder), Config(folder.At("again")));
        foreach (var key in new[] { "target_modules", "target_parameters", "rank_pattern", "alpha_pattern", "r", "lora_alpha" })
        {
            Assert.That(now[key]?.ToJsonString(), Is.EqualTo(was[key]?.ToJsonString()), key);
        }
    }

    [TestCaseSource(nameof(s_expertByExpert))]
    public void An_adapter_with_updates_of_single_experts_is_read_as_PEFT_reads_it(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Assert.That(Golden.LargestDifference(Logits(golden, loaded.Model), golden.Tensor("full.logits")), Is.LessThan(3e-5 * TestDevice.Slack));
        using var folder = new TemporaryFolder();
        PeftFolder.Save(adapter, folder.At("again"), null);
        var (expected, now) = (golden.Json["peft_0_21_config_after_conversion"]!, Config(folder.At("again")));
        foreach (var key in new[] { "target_modules", "target_parameters", "rank_pattern", "alpha_pattern" })
        {
            Assert.That(now[key]?.ToJsonString(), Is.EqualTo(expected[key]?.ToJsonString()), key);
        }

        var shapes = golden.Json["peft_0_21_live_shapes"]!.AsObject();
        var saved = PeftFolder.Tensors(adapter).ToDictionary(static t => t.Name, static t => t.Tensor.shape);
        foreach (var (live, shape) in shapes)
        {
            Assert.That(saved[FileName(live)], Is.EqualTo(shape!.AsArray().Select(static n => (long)n!)), live);
        }

        CompareMerged(golden, loaded, adapter);
        adapter.Dispose();
        using var again = PeftFolder.Load(loaded.Model, folder.At("again"));
        Assert.That(Golden.LargestDifference(Logits(golden, loaded.Model), golden.Tensor("full.logits")), Is.LessThan(3e-5 * TestDevice.Slack));
    }

    [TestCase("lora_params_router_qwen3moe")]
    [TestCase("lora_params_gptoss")]
    [TestCase("lora_v4_experts_mixtral")]
    [Category(TestDevice.CpuAlone)]
    public void A_merged_model_has_the_bases_layout_and_the_adapters_logits(string name)
    {
        using var golden = new Golden(name, Set);
        using var loaded = Base(golden);
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var folder = new TemporaryFolder();
        MergedExport.Write(loaded, adapter, folder.At("merged"), dtype: null, maxShardBytes: 1L << 30);
        using var before = CheckpointWeights.Open(loaded.Folder.FolderPath);
        using var after = CheckpointWeights.Open(folder.At("merged"));
        Assert.That(after.Tensors.Select(static t => t.ToString()), Is.EqualTo(before.Tensors.Select(static t => t.ToString())));
        using var merged = ModelLoader.Load(folder.At("merged"), float32, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Assert.That(Golden.LargestDifference(Logits(golden, merged.Model), golden.Tensor("full.logits")), Is.LessThan(5e-5));
    }

    [TestCase("nf4")]
    [TestCase("int8")]
    [Category(TestDevice.CpuAlone)]
    public void Quantized_experts_are_trained_and_merged_with_the_values_that_they_have(string kind)
    {
        foreach (var name in new[] { "lora_params_router_qwen3moe", "lora_params_gptoss" })
        {
            using var golden = new Golden(name, Set);
            using var loaded = ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current, QuantizationSettings.Of(kind));
            Assert.That(loaded.Model.ExpertMatrices.Select(static m => m.Matrix.Quantized?.Count), Is.All.EqualTo(4));
            using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
            using var folder = new TemporaryFolder();
            MergedExport.Write(loaded, adapter, folder.At("merged"), dtype: null, maxShardBytes: 1L << 30);
            using var merged = ModelLoader.Load(folder.At("merged"), float32, TestDevice.Current);
            using var scope = NewDisposeScope();
            var logits = Logits(golden, loaded.Model);
            Assert.That(Golden.LargestDifference(logits, Logits(golden, merged.Model)), Is.LessThan(5e-5), name);
            Assert.That(Golden.LargestDifference(logits, golden.Tensor("full.logits")), Is.GreaterThan(1e-3), "rounded");
            logits.sum().backward();
            Assert.That(adapter.Parameters.Select(static p => p.Parameter.grad!.norm().ToDouble()), Is.All.GreaterThan(0));
        }
    }

    [Test]
    public void Names_of_experts_layers_become_parameters_as_in_PEFT()
    {
        using var golden = new Golden("lora_all_linear_qwen3moe", Set);
        using var loaded = Base(golden);
        var expected = Config(golden.Folder);
        foreach (var targets in new[] { TargetModules.AllLinear, TargetModules.Of(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "gate"]) })
        {
            using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = (int)expected["r"]!, Alpha = (double)expected["lora_alpha"]!, Targets = targets }, seed: 1);
            using var folder = new TemporaryFolder();
            PeftFolder.Save(adapter, folder.At("new"), "base");
            var config = Config(folder.At("new"));
            static IEnumerable<string> Texts(JsonNode? node) => node!.AsArray().Select(static n => n!.ToString());
            foreach (var key in new[] { "target_modules", "target_parameters" })
            {
                Assert.That(Texts(config[key]), Is.EquivalentTo(Texts(expected[key])), key);
            }

            Assert.That(config["rank_pattern"]!.ToJsonString(), Is.EqualTo(expected["rank_pattern"]!.ToJsonString()));
            Assert.That(config["alpha_pattern"]!.ToJsonString(), Is.EqualTo(expected["alpha_pattern"]!.ToJsonString()));
        }

        Assert.That(
            () => PeftAdapter.Create(loaded.Model, new LoraConfig { Targets = TargetModules.Of(["q_proj", "gate_proj"]) }, seed: 1),
            Throws.TypeOf<InvalidDataException>().With.Message.Contains("cannot be adapted without up_proj"));
        Assert.That(
            () => PeftAdapter.Create(loaded.Model, new LoraConfig { Dropout = 0.1 }, seed: 1),
            Throws.TypeOf<InvalidDataException>().With.Message.Contains("lora_dropout").And.Message.Contains("set it to 0"));
        Assert.That(
            () => PeftAdapter.Create(loaded.Model, new LoraConfig { Targets = TargetModules.Of(["q_proj"]), TargetParameters = ["gate_proj"] }, seed: 1),
            Throws.TypeOf<InvalidDataException>().With.Message.Contains("no parameter named gate_proj").And.Message.Contains("gate_up_proj, down_proj"));
    }

    [Test]
    public void A_mix_of_adapters_of_experts_is_the_sum_of_their_changes()
    {
        using var golden = new Golden("lora_params_qwen3moe", Set);
        using var loaded = Base(golden);
        using var nothing = no_grad();
        using var set = new AdapterSet(loaded.Model);
        _ = set.Load("both", golden.Folder);
        _ = set.Load("one", SharedFiles.Require("goldens", Set, "lora_params_one_qwen3moe"));
        set.Use(("both", 0.5), ("one", 2));
        using var scope = NewDisposeScope();
        var mixed = Logits(golden, loaded.Model);
        var weights = loaded.Model.named_parameters().Where(p => set.Active!.ChangedTensors.Contains(p.name)).Select(static p => (p.name, p.parameter, Own: p.parameter.clone())).ToList();
        foreach (var (name, parameter, own) in weights)
        {
            _ = parameter.copy_(set.Active!.Merged(name, own));
        }

        set.Use();
        Assert.That(Golden.LargestDifference(Logits(golden, loaded.Model), mixed), Is.LessThan(3e-5));
    }

    private static void CompareMerged(Golden golden, LoadedModel loaded, PeftAdapter adapter)
    {
        using var nothing = no_grad();
        var parameters = loaded.Model.named_parameters().ToDictionary(static p => p.name, static p => p.parameter);
        using var merged = SafetensorsFile.Open(Path.Combine(golden.Folder, "merged.safetensors"));
        foreach (var entry in merged.Tensors.Where(t => parameters.ContainsKey(t.Name)))
        {
            var values = adapter.Merged(entry.Name, parameters[entry.Name]);
            Assert.That(Golden.LargestDifference(values, TensorFiles.Read(merged, entry.Name)), Is.LessThan(2e-6), entry.Name);
        }
    }

    // PEFT's live names have the adapter's name in them.
    private static string FileName(string live) => live.Replace("base_model.model.", "", StringComparison.Ordinal).Replace(".default", "", StringComparison.Ordinal);

    private static JsonObject Config(string folder) => JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "adapter_config.json")))!.AsObject();

    private static LoadedModel Base(Golden golden) => ModelLoader.Load(Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), float32, TestDevice.Current);

    private static Tensor Logits(Golden golden, CausalLanguageModel model) =>
        model.Logits(model.call(golden.Json["runs"]?["full"] is { } run ? Golden.Input(run) : ModelInput.Rows(Golden.Ids(golden.Json["input_ids"]!))));
}
