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

namespace OpenWeights.Tune.Tests.Models;

/// <summary>Model folders: what does not fit is told whole, and what would change the maths is refused.</summary>
public sealed class ModelLoaderTests
{
    [Test]
    public void Missing_misshapen_and_unknown_tensors_are_listed_together_with_the_setting_that_disagrees()
    {
        using var folder = new TemporaryFolder();
        var path = TinyModel.Write(folder);
        Change(path, static config => config["intermediate_size"] = 50);
        Rewrite(path, static tensors => tensors.Where(static t => t.Name != "model.norm.weight").Append(new TensorToWrite("model.extra", DType.F32, [1], static stream => stream.Write(new byte[4]))));
        Assert.That(() => ModelLoader.Load(path, null, TestDevice.Current), Throws.InstanceOf<InvalidDataException>()
            .With.Message.Contains("missing: model.norm.weight [32]")
            .And.Message.Contains("misshapen: model.layers.0.mlp.up_proj.weight is [48, 32], but config.json requires [50, 32] (intermediate_size is 50)")
            .And.Message.Contains("unexpected: model.extra [1]"));
    }

    [TestCase("hidden_act", "\"softsign\"", "hidden_act: activation 'softsign'")]
    [TestCase("model_type", "\"unheard_of\"", "model_type: 'unheard_of' is not a supported family")]
    [TestCase("rope_scaling", "{\"rope_type\": \"spiral\", \"factor\": 2}", "rope type 'spiral' is not supported")]
    [TestCase("num_key_value_heads", "3", "num_key_value_heads: 3 does not divide")]
    [TestCase("hidden_size", "\"wide\"", "hidden_size: a number is expected")]
    [TestCase("hidden_size", "null", "hidden_size: this setting is missing")]
    [TestCase("attention_dropout", "0.1", "attention_dropout")]
    public void A_setting_that_cannot_be_followed_is_refused_by_name(string key, string value, string message)
    {
        using var folder = new TemporaryFolder();
        var path = TinyModel.Write(folder);
        Change(path, config => config[key] = JsonNode.Parse(value));
        Assert.That(() => ModelLoader.Load(path, null, TestDevice.Current), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(message).And.Message.Contains("config.json"));
    }

    [Test]
    public void A_float16_checkpoint_is_computed_in_float32_on_a_CPU()
    {
        using var folder = new TemporaryFolder();
        var path = TinyModel.Write(folder);
        Rewrite(path, static tensors => tensors, float16);
        using var loaded = ModelLoader.Load(path, null, TestDevice.Current);
        Assert.That(loaded.Model.DType, Is.EqualTo(float32));
    }

    [Test]
    public void An_adapter_over_a_bfloat16_base_stays_float32_and_learns()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), bfloat16, TestDevice.Current);
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2 }, seed: 1);
        using var scope = NewDisposeScope();
        var logits = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(tensor(new long[] { 1, 2, 3, 4 }, [1, 4]))));
        logits.mul(logits).sum().backward();
        Assert.That(adapter.Parameters.All(static p => p.Parameter.dtype == float32));
        Assert.That(adapter.Layers.All(static l => l.B.grad!.dtype == float32 && l.B.grad.abs().sum().ToDouble() > 0));
    }

    [Test]
    public void Targets_that_name_nothing_are_told_with_what_is_there()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), null, TestDevice.Current);
        Assert.That(
            () => PeftAdapter.Create(loaded.Model, new LoraConfig { Targets = TargetModules.Of(["query"]) }, seed: 1),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains("query").And.Message.Contains("q_proj"));
    }

    [Test]
    public void A_new_adapter_changes_nothing_and_starts_within_its_bound()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder, tied: false), null, TestDevice.Current);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var input = ModelInput.Rows(tensor(new long[] { 5, 6, 7 }, [1, 3]));
        var before = loaded.Model.Logits(loaded.Model.call(input));
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 4 }, seed: 1);
        Assert.That(Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(input)), before), Is.Zero);
        Assert.That(adapter.Layers.Select(static l => l.Module), Has.None.EqualTo("lm_head").And.Count.EqualTo(14));
        foreach (var layer in adapter.Layers)
        {
            var bound = 1 / Math.Sqrt(layer.A.size(1));
            Assert.That(layer.A.abs().max().ToDouble(), Is.LessThanOrEqualTo(bound).And.GreaterThan(0.8 * bound), layer.Module);
        }
    }

    [Test]
    public void A_sharded_checkpoint_is_the_model_that_one_file_is()
    {
        using var folder = new TemporaryFolder();
        var path = TinyModel.Write(folder);
        using var whole = CheckpointWeights.Open(path);
        Directory.CreateDirectory(folder.At("sharded"));
        CheckpointWriter.Write(folder.At("sharded"), [.. whole.Tensors.Select(t => TensorToWrite.FromSource(whole, t.Name))], maxShardBytes: 10_000);
        File.Copy(Path.Combine(path, "config.json"), folder.At("sharded", "config.json"));
        using var one = ModelLoader.Load(path, null, TestDevice.Current);
        using var many = ModelLoader.Load(folder.At("sharded"), null, TestDevice.Current);
        using var scope = NewDisposeScope();
        foreach (var ((name, expected), (_, actual)) in one.Model.named_parameters().Zip(many.Model.named_parameters()))
        {
            Assert.That(Golden.LargestDifference(actual, expected), Is.Zero, name);
        }
    }

    private static void Change(string path, Action<JsonObject> change)
    {
        var file = Path.Combine(path, "config.json");
        var config = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        change(config);
        File.WriteAllText(file, config.ToJsonString());
    }

    private static void Rewrite(string path, Func<IEnumerable<TensorToWrite>, IEnumerable<TensorToWrite>> change, ScalarType? dtype = null)
    {
        var file = Path.Combine(path, "model.safetensors");
        using var scope = NewDisposeScope();
        List<TensorToWrite> tensors;
        using (var old = SafetensorsFile.Open(file))
        {
            tensors = [.. old.Tensors.Select(t => TensorFiles.ToWrite(t.Name, TensorFiles.Read(old, t.Name), dtype))];
        }

        SafetensorsWriter.Write(file, [.. change(tensors)]);
    }
}
