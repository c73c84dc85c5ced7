using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Adapters of every kind in GGUF: merged into the model, or refused where the file would hold only a part of them.</summary>
public sealed class GgufAdapterTests
{
    private static readonly IEnumerable<string> s_merged = Golden.Present("lora_dora", "lora_patterns", "lora_bias_lora_only/with_biases", "lora_embedding", "lora_modules_to_save");

    private static readonly (string Name, string Why)[] s_partial =
    [
        ("lora_dora", "use_dora"), ("lora_bias_lora_only/with_biases", "(bias)"), ("lora_embedding", "embedding"), ("lora_modules_to_save", "modules_to_save"), ("lora_pissa/trained_pissa", "pissa"),
    ];

    private static IEnumerable<object[]> Partial => Golden.Present([.. s_partial.Select(static p => p.Name)]).Select(static name => new object[] { name, s_partial.Single(p => p.Name == name).Why });

    [TestCaseSource(nameof(s_merged))]
    public void A_merged_model_has_PEFTs_merged_logits(string name)
    {
        var needsBaseValues = name is not ("lora_dora" or "lora_patterns");
        using var golden = new Golden(name.Split('/')[0]);
        using var work = new TemporaryFolder();
        var path = SharedFiles.Require(["goldens", "reference", .. name.Split('/')]);
        Assert.That(PeftFolder.NeedsBaseValues(path), Is.EqualTo(needsBaseValues));
        using var @base = needsBaseValues ? ModelLoader.Load(Base(golden), float32, CPU) : ModelLoader.LoadMeta(Base(golden));
        using var adapter = PeftFolder.Load(@base.Model, path);
        using var mix = new CombinedAdapter([(adapter, 1)]);
        Assert.That(GgufExport.Write(@base.Folder, mix, work["merged.gguf"], GgufPreset.Of("f32"), @base.Model), Is.False, "nothing is untied");
        Assert.That(Golden.LargestDifference(Logits(work, golden), golden.Tensor("merged.logits")), Is.LessThan(3e-5));
    }

    [Test]
    public void A_combination_is_merged_by_its_weights()
    {
        using var golden = new Golden("lora_qv");
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(golden), float32, CPU);
        using var adapters = new AdapterSet(loaded.Model);
        string[] names = ["lora_qv", "lora_dora", "lora_embedding"];
        foreach (var name in names)
        {
            _ = adapters.Load(name, SharedFiles.Require("goldens", "reference", name));
        }

        adapters.Use((names[0], 0.7), (names[1], 0.3), (names[2], -0.5));
        _ = GgufExport.Write(loaded.Folder, adapters.Active, work["merged.gguf"], GgufPreset.Of("f32"), loaded.Model);
        RequireSame(loaded, work, golden);
    }

    [Test]
    public void An_output_head_is_written_where_the_adapter_changes_the_embedding_alone()
    {
        using var golden = new Golden("llama_tied");
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(golden.Folder, float32, CPU);
        using var adapter = Embeddings(loaded.Model);
        using var mix = new CombinedAdapter([(adapter, 1)]);
        Assert.That(GgufExport.Write(loaded.Folder, mix, work["merged.gguf"], GgufPreset.Of("f32"), loaded.Model));
        using (var file = GgufFile.Open(work["merged.gguf"]))
        {
            Assert.That(file.Contains("output.weight"));
        }

        RequireSame(loaded, work, golden);
    }

    [Test]
    public void Gemma_has_no_place_for_an_output_head_of_its_own()
    {
        using var work = new TemporaryFolder();
        var source = SharedFiles.Require("goldens", "reference", "gemma");
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(source, "config.json")))!;
        config["tie_word_embeddings"] = false;
        var folder = work.Folder("gemma");
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        using (var weights = CheckpointWeights.Open(source))
        {
            using var head = TensorFiles.Read(weights, "model.embed_tokens.weight");
            _ = CheckpointWriter.Write(folder, [.. weights.Tensors.Select(t => TensorToWrite.FromSource(weights, t.Name)), TensorFiles.ToWrite("lm_head.weight", head)]);
        }

        Assert.That(
            () => GgufExport.Write(ModelFolder.Open(folder), null, work["gemma.gguf"], GgufPreset.Of("f32")),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains("output head"));
        Assert.That(work.Names, Has.None.Contains("gguf"));
    }

    [Test]
    public void A_quantised_bases_own_values_are_written()
    {
        using var golden = new Golden("lora_dora");
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(golden), float32, CPU, QuantizationSettings.Of("nf4"));
        using var adapter = PeftFolder.Load(loaded.Model, golden.Folder);
        using var mix = new CombinedAdapter([(adapter, 1)]);
        _ = GgufExport.Write(loaded.Folder, mix, work["merged.gguf"], GgufPreset.Of("f32"), loaded.Model);
        RequireSame(loaded, work, golden);
    }

    [TestCaseSource(nameof(Partial))]
    public void A_LoRA_file_is_refused_where_it_would_hold_only_a_part_of_the_adapter(string name, string why)
    {
        using var golden = new Golden(name.Split('/')[0]);
        using var work = new TemporaryFolder();
        using var loaded = ModelLoader.Load(Base(golden), float32, CPU);
        using var adapter = PeftFolder.Load(loaded.Model, SharedFiles.Require(["goldens", "reference", .. name.Split('/')]));
        Assert.That(
            () => GgufLoraExport.Write(loaded.Folder, adapter, work["lora.gguf"]),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains(why).And.Message.Contains("--format gguf"));
        Assert.That(work.Names, Is.Empty);
    }

    private static PeftAdapter Embeddings(CausalLanguageModel model)
    {
        var adapter = PeftAdapter.Create(model, new LoraConfig { Rank = 4, Alpha = 8, Targets = TargetModules.Of(["embed_tokens", "q_proj"]) }, 1);
        using var nothing = no_grad();
        foreach (var (_, parameter) in adapter.Parameters)
        {
            _ = parameter.normal_(0, 0.1);
        }

        return adapter;
    }

    private static string Base(Golden golden) => Path.Combine(golden.Folder, golden.Json["base"]!.ToString());

    private static Tensor Ids(Golden golden) => Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!);

    private static Tensor Logits(TemporaryFolder work, Golden golden)
    {
        var folder = work.Folder("unpacked");
        GgufFolder.Unpack(work["merged.gguf"], folder);
        using var written = ModelLoader.Load(folder, float32, CPU);
        return Logits(written, golden);
    }

    private static Tensor Logits(LoadedModel loaded, Golden golden)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(Ids(golden)))).MoveToOuterDisposeScope();
    }

    private static void RequireSame(LoadedModel withAdapters, TemporaryFolder work, Golden golden)
    {
        using var scope = NewDisposeScope();
        Assert.That(Golden.LargestDifference(Logits(work, golden), Logits(withAdapters, golden)), Is.LessThan(3e-5));
    }
}
