using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>Files of LoRA's forms that are damaged, contradict themselves or are of a form that is not known: each is told in a sentence.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class LoraFormFileTests
{
    private TemporaryFolder? _work;
    private LoadedModel? _loaded;

    [SetUp]
    public void Make()
    {
        _work = new TemporaryFolder();
        _loaded = ModelLoader.Load(TinyModel.Write(_work), float32, CPU);
    }

    [TearDown]
    public void Clean()
    {
        _loaded?.Dispose();
        _work?.Dispose();
    }

    [TestCase("use_qalora", "true")]
    [TestCase("velora_config", "{\"num_groups\": 4}")]
    [TestCase("monteclora_config", "{}")]
    [TestCase("arrow_config", "{\"top_k\": 2}")]
    [TestCase("kasa_config", "7")]
    [TestCase("layer_replication", "[[1, 0]]")]
    [TestCase("layer_replication", "[[0, 9]]")]
    [TestCase("alora_invocation_tokens", "[\"five\"]")]
    [TestCase("trainable_token_indices", "{\"embed_tokens\": \"five\"}")]
    [TestCase("init_lora_weights", "\"tomorrow\"")]
    public void A_setting_that_cannot_be_followed_is_named(string key, string value) =>
        Assert.That(Told(new LoraConfig { Rank = 2 }, config => config[key] = JsonNode.Parse(value)), Does.Contain(key).And.Not.Contains("\n"));

    [TestCase("corda")]
    [TestCase("lora_ga")]
    [TestCase("pissa_niter_4")]
    public void A_start_that_is_not_there_is_asked_for(string start) =>
        Assert.That(Told(new LoraConfig { Rank = 2 }, config => config["init_lora_weights"] = start), Does.Contain(start).And.Contains("initial/").And.Contains("path_initial_model_for_weight_conversion"));

    [Test]
    public void A_missing_or_misshapen_tensor_is_named()
    {
        var kasa = new LoraConfig { Rank = 2, Targets = TargetModules.Of(["model.layers.0.self_attn.q_proj"]), Kasa = new KasaSettings() };
        Assert.That(Told(kasa, tensors: t => t.Name.EndsWith("lora_diag", StringComparison.Ordinal) ? null : t), Does.Contain("missing: base_model.model.model.layers.0.self_attn.q_proj.lora_diag [2]"));
        var rows = new LoraConfig { Rank = 2, TrainableTokens = [new TokenRows(null, [3, 5])] };
        Assert.That(
            Told(rows, config => config["trainable_token_indices"] = new JsonArray(3, 5, 7)),
            Does.Contain("misshapen: base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta is [2, 32]").And.Contains("[3, 32]"));
        var blocks = new LoraConfig { Rank = 2, Targets = TargetModules.Of(["model.layers.0.self_attn.q_proj"]), BlockDiagonal = new BlockDiagonalSettings { OfA = ["q_proj"], Blocks = 2 } };
        Assert.That(Told(blocks, config => config.Remove("use_bdlora")), Does.Contain("misshapen: base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight is [2, 16]").And.Contains("[2, 32]"));
    }

    [Test]
    public void Rows_of_tokens_that_the_model_does_not_have_are_told()
    {
        var rows = new LoraConfig { Rank = 2, TrainableTokens = [new TokenRows(null, [3])] };
        Assert.That(Told(rows, config => config["trainable_token_indices"] = new JsonArray(96)), Does.Contain("trainable_token_indices").And.Contains("96"));
    }

    // The message when an adapter, saved and then changed, is read.
    private string Told(LoraConfig config, Action<JsonObject>? settings = null, Func<TensorToWrite, TensorToWrite?>? tensors = null)
    {
        var (from, to) = (_work!.At(Guid.NewGuid().ToString("N")), _work.At(Guid.NewGuid().ToString("N")));
        using (var adapter = PeftAdapter.Create(_loaded!.Model, config, seed: 1))
        {
            PeftFolder.Save(adapter, from, null);
        }

        using var file = SafetensorsFile.Open(Path.Combine(from, "adapter_model.safetensors"));
        var json = AdapterFolder.Open(from).Config;
        settings?.Invoke(json);
        AdapterFolder.Write(to, json, [.. file.Tensors.Select(t => TensorToWrite.FromSource(file, t.Name)).Select(t => tensors is null ? t : tensors(t)).OfType<TensorToWrite>()]);
        return Assert.Throws<InvalidDataException>(() => PeftFolder.Load(_loaded!.Model, to).Dispose())!.Message;
    }
}
