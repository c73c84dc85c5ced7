using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Export;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>Multimodal checkpoints: the text model inside is found in every layout that people have, and nothing else is touched.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class MultimodalTests
{
    private const string Newer = "model.language_model.$1";
    private const string TextNames = @"^(?:language_model\.model|model\.language_model|model)\.((?:embed_tokens|layers|norm)\..*)$";

    [TestCase("gemma3_whole", Newer)]
    [TestCase("gemma3_whole", "language_model.model.$1")]
    [TestCase("gemma3_whole", "model.$1")]
    [TestCase("qwen2_5_vl_whole", Newer)]
    [TestCase("qwen2_5_vl_whole", "model.$1")]
    [TestCase("qwen3_vl_whole", Newer)]
    [TestCase("qwen3_vl_whole", "language_model.model.$1")]
    public void The_text_model_is_found_under_older_and_newer_names_which_an_export_keeps(string name, string names)
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden(name, Families2026Tests.Set);
        var path = Copy(folder, golden, old => Regex.Replace(old, TextNames, names));
        using var loaded = ModelLoader.Load(path, float32, CPU);
        RequireGoldenLogits(golden, loaded.Model);
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "lora"));
        MergedExport.Write(loaded, adapter, folder.At("merged"), dtype: null, maxShardBytes: 1 << 30);
        using var before = CheckpointWeights.Open(path);
        using var after = CheckpointWeights.Open(folder.At("merged"));
        Assert.That(after.Tensors.Select(static t => t.ToString()), Is.EquivalentTo(before.Tensors.Select(static t => t.ToString())));
    }

    [Test]
    public void The_text_models_settings_may_lie_in_the_config_itself_as_in_older_versions()
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden("qwen2_5_vl_whole", Families2026Tests.Set);
        var path = Copy(folder, golden, static name => name, static config =>
        {
            var text = config["text_config"]!.DeepClone().AsObject();
            _ = config.Remove("text_config");
            foreach (var (key, value) in text.Where(static p => p.Key is not ("model_type" or "layer_types")))
            {
                config[key] = value?.DeepClone();
            }

            _ = config.Remove("rope_parameters");
            config["rope_theta"] = 1e6;
            config["rope_scaling"] = new JsonObject { ["type"] = "mrope", ["mrope_section"] = new JsonArray(2, 3, 3) };
        });
        using var loaded = ModelLoader.Load(path, float32, CPU);
        RequireGoldenLogits(golden, loaded.Model);
    }

    [Test]
    public void Sizes_that_a_config_leaves_out_are_the_defaults_of_its_class()
    {
        // As google/gemma-3-4b-it has it.
        var config = JsonNode.Parse("""
            {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000, "eos_token_id": [1, 106],
             "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256, "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
             "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
             "vision_config": {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model"}}
            """)!.AsObject();
        var decoder = FamilyRegistry.Read(config, "config.json");
        Assert.That((decoder.VocabularySize, decoder.HeadCount, decoder.KeyValueHeadCount, decoder.HeadDimension, decoder.LayerCount), Is.EqualTo((262208, 8, 4, 256, 34)));
        Assert.That((decoder.TiedEmbeddings, decoder.Names.EmbeddingWeight, decoder.IsPart), Is.EqualTo((true, "model.language_model.embed_tokens.weight", true)));
    }

    [TestCase("\"text_config\"", "\"tie_word_embeddings\": true, \"text_config\"", true)]
    [TestCase("\"model_type\": \"qwen3_vl_text\"", "\"tie_word_embeddings\": true, \"model_type\": \"qwen3_vl_text\"", true)]
    [TestCase("\"text_config\"", "\"text_config\"", false)]
    public void Whether_embeddings_are_tied_is_said_outside_or_in_the_text_models_settings(string old, string @new, bool tied)
    {
        var text = File.ReadAllText(Path.Combine(SharedFiles.Require("goldens", Families2026Tests.Set, "qwen3_vl_whole"), "config.json"))
            .Replace("\"tie_word_embeddings\": false,", "", StringComparison.Ordinal).Replace(old, @new, StringComparison.Ordinal);
        Assert.That(FamilyRegistry.Read(JsonNode.Parse(text)!.AsObject(), "config.json").TiedEmbeddings, Is.EqualTo(tied));
    }

    [Test]
    public void Other_parts_are_never_loaded_and_travel_with_their_types_beside_the_processors_files()
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden("gemma3_whole", Families2026Tests.Set);
        var path = Copy(folder, golden, static name => name, change: null, more: [new TensorToWrite("vision_tower.codes", DType.F8_E4M3, [3], static stream => stream.Write([1, 2, 3]))]);
        foreach (var name in new[] { "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "chat_template.json" })
        {
            File.WriteAllText(Path.Combine(path, name), $"{{\"of\":   \"{name}\"}}");
        }

        using var loaded = ModelLoader.Load(path, float32, CPU);
        Assert.That(loaded.Model.named_parameters().Select(static p => p.name), Is.All.StartsWith("model.language_model."));
        using var none = new CombinedAdapter([]);
        _ = MergedExport.Write(loaded, none, folder.At("merged"), float32, 1 << 30);
        using var trained = new OpenWeights.Tune.Training.FullTraining(ModelLoader.Load(path, float32, CPU), decayNormsAndBiases: false);
        trained.Save(folder.At("trained"));
        foreach (var written in new[] { "merged", "trained" })
        {
            using var weights = CheckpointWeights.Open(folder.At(written));
            Assert.That(weights.ReadBytes("vision_tower.codes"), Is.EqualTo(new byte[] { 1, 2, 3 }), written);
            foreach (var name in new[] { "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "chat_template.json" })
            {
                Assert.That(File.ReadAllText(folder.At(written, name)), Is.EqualTo(File.ReadAllText(Path.Combine(path, name))), written);
            }
        }
    }

    [Test]
    public void A_missing_tensor_of_the_text_model_is_named_as_the_file_would_have_it()
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden("gemma3_whole", Families2026Tests.Set);
        var path = Copy(folder, golden, static name => name.Replace("language_model.model.layers.1.mlp.up_proj", "vision_tower.up", StringComparison.Ordinal));
        Assert.That(() => ModelLoader.Load(path, float32, CPU), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("missing: language_model.model.layers.1.mlp.up_proj.weight [112, 64]").And.Message.Not.Contains("vision_tower"));
    }

    [Test]
    public void A_new_adapters_targets_match_nothing_outside_the_text_model()
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden("gemma3_whole", Families2026Tests.Set);
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU);
        using (var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2 }, seed: 1))
        {
            Assert.That(adapter.Layers.Select(static l => l.Module), Is.All.StartsWith("model.language_model.layers."));
            PeftFolder.Save(adapter, folder.At("adapter"), golden.Folder);
        }

        var written = JsonNode.Parse(File.ReadAllText(folder.At("adapter", "adapter_config.json")))!["target_modules"]!.GetValue<string>();
        bool Matches(string module) => Regex.IsMatch(module, $@"\A(?:{written})\z");
        Assert.That(Matches("model.language_model.layers.3.self_attn.q_proj") && Matches("model.language_model.layers.0.mlp.down_proj"), written);
        Assert.That(Matches("model.vision_tower.encoder.layers.0.self_attn.q_proj") || Matches("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj") || Matches("model.language_model.embed_tokens"), Is.False, written);
        using var again = PeftFolder.Load(loaded.Model, folder.At("adapter"));
        Assert.That(again.Layers, Has.Count.EqualTo(7 * loaded.Model.Config.LayerCount));
    }

    [Test]
    public void An_adapter_of_the_vision_tower_is_refused_in_a_sentence()
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden("gemma3_whole", Families2026Tests.Set);
        using var source = SafetensorsFile.Open(Path.Combine(golden.Folder, "lora", "adapter_model.safetensors"));
        File.Copy(Path.Combine(golden.Folder, "lora", "adapter_config.json"), folder.At("adapter_config.json"));
        SafetensorsWriter.Write(
            folder.At("adapter_model.safetensors"),
            [.. source.Tensors.Select(t => TensorToWrite.FromSource(source, t.Name)), TensorToWrite.FromSource(source, source.Tensors[0].Name, "base_model.model.model.vision_tower.encoder.layers.0.mlp.fc1.lora_A.weight")]);
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU);
        Assert.That(() => PeftFolder.Load(loaded.Model, folder.Root), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("fc1.lora_A.weight, of a part of the model that is not loaded here"));
    }

    [Test]
    public void An_untied_head_gets_the_name_that_the_files_parts_have()
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden("gemma3_whole", Families2026Tests.Set);
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU);
        using var adapter = PeftAdapter.Create(loaded.Model, new LoraConfig { Rank = 2, ModulesToSave = ["lm_head"] }, seed: 1);
        using (no_grad())
        {
            _ = adapter.Parts.OfType<ReplacedWeight>().Single().Parameters.Single().Parameter.mul_(-1);
        }

        MergedExport.Write(loaded, adapter, folder.At("merged"), float32, 1 << 30);
        var difference = MergedExport.Verify(loaded, folder.At("merged"));
        Assert.That(difference.Difference, Is.LessThan(1e-4 * difference.Largest));
        Assert.That(ModelLoader.ReadConfig(ModelFolder.Open(folder.At("merged"))).TiedEmbeddings, Is.False);
    }

    [Test]
    public void The_text_model_is_exported_as_GGUF()
    {
        using var folder = new TemporaryFolder();
        using var golden = new Golden("gemma3_whole", Families2026Tests.Set);
        var path = Copy(folder, golden, static name => name, static config =>
        {
            // llama.cpp knows only the usual arrangement of windows.
            _ = config["text_config"]!.AsObject().Remove("layer_types");
            config["text_config"]!["sliding_window_pattern"] = 6;
        });
        ByteTokenizer.Write(path);
        using var loaded = ModelLoader.Load(path, float32, CPU);
        using var adapter = PeftFolder.Load(loaded.Model, Path.Combine(golden.Folder, "lora"));
        using var combined = new CombinedAdapter([(adapter, 1)]);
        _ = GgufExport.Write(loaded.Folder, combined, folder.At("text.gguf"), GgufPreset.Of("f32"));
        using var gguf = ModelLoader.Load(GgufFolder.Unpack(folder.At("text.gguf")), float32, CPU);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var input = Golden.Input(golden.Json["runs"]!["full"]!);
        Assert.That(Golden.LargestDifference(gguf.Model.Logits(gguf.Model.call(input)), loaded.Model.Logits(loaded.Model.call(input))), Is.LessThan(1e-4));
        GgufLoraExport.Write(loaded.Folder, adapter, folder.At("lora.gguf"));
        using var lora = GgufFile.Open(folder.At("lora.gguf"));
        Assert.That(lora.Tensors.Select(static t => t.Name), Has.Member("blk.3.attn_q.weight.lora_a"));
    }

    [TestCase("""{"model_type": "gemma3", "text_config": {"model_type": "unheard_of"}}""", "text_config: model_type: 'unheard_of', the text model of this gemma3, is not a supported family")]
    [TestCase("""{"model_type": "mistral3", "router_of_parts": 3, "text_config": {"model_type": "mistral"}}""", "router_of_parts (3)")]
    [TestCase("""{"model_type": "mistral3", "text_config": {"model_type": "mistral"}}""", "text_config: hidden_size")]
    [TestCase("""{"model_type": "mistral3", "text_config": {"model_type": "mistral"}, "quantization_config": {"quant_method": "hqq"}}""", "quantized by hqq")]
    public void What_is_wrong_is_told_with_its_place(string config, string problem) =>
        Assert.That(() => FamilyRegistry.Read(JsonNode.Parse(config)!.AsObject(), "config.json"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(problem));

    private static void RequireGoldenLogits(Golden golden, CausalLanguageModel model)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var run = golden.Json["runs"]!["full"]!;
        Assert.That(Golden.LargestDifference(model.Logits(model.call(Golden.Input(run))), golden.Tensor("full.logits")), Is.LessThan(1e-4));
    }

    private static string Copy(TemporaryFolder folder, Golden golden, Func<string, string> rename, Action<JsonObject>? change = null, IReadOnlyList<TensorToWrite>? more = null)
    {
        var path = folder.Folder("whole");
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(golden.Folder, "config.json")))!.AsObject();
        change?.Invoke(config);
        File.WriteAllText(Path.Combine(path, "config.json"), config.ToJsonString());
        using var weights = CheckpointWeights.Open(golden.Folder);
        SafetensorsWriter.Write(Path.Combine(path, "model.safetensors"), [.. weights.Tensors.Select(t => TensorToWrite.FromSource(weights, t.Name, rename(t.Name))), .. more ?? []]);
        return path;
    }
}
