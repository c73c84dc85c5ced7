using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>
/// Every adapter that PEFT wrote, damaged: each kind of its tensors left out, of another shape, with a NaN, and settings that say something else than the
/// file. Each is told in one sentence that names the tensor or the setting.
/// </summary>
[Category(TestDevice.CpuAlone)]
public sealed class DamagedAdapterTests
{
    // Tensors that PEFT does not always save (and of a tied model the head's, which are the embedding's again), so that a file without them is whole.
    private static readonly string[] s_spare = ["base_layer.weight", "original_module.weight", "base_layer.bias", ".bias", "randlora_A", "randlora_B"];

    private readonly Dictionary<string, LoadedModel> _bases = [];

    private static IEnumerable<string> Names => SharedFiles.Find("goldens", "adapters2026") is not { } all ? [] : Directory.GetDirectories(all)
        .Where(static f => File.Exists(Path.Combine(f, "adapter_model.safetensors")) && File.Exists(Path.Combine(f, "golden.json"))).Select(Path.GetFileName).Order(StringComparer.Ordinal)!;

    [OneTimeTearDown]
    public void Clean() => _bases.Values.ToList().ForEach(static b => b.Dispose());

    [TestCaseSource(nameof(Names))]
    public void A_tensor_that_is_missing_misshapen_or_not_finite_is_named(string name)
    {
        using var golden = new Golden(name, "adapters2026");
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var model = Base(golden);
        var given = AdapterFolder.Open(golden.Folder);
        using var file = given.OpenWeights();
        foreach (var tensor in OneOfEach(file))
        {
            var others = file.Tensors.Where(t => t.Name != tensor.Name).Select(t => TensorToWrite.FromSource(file, t.Name)).ToList();
            string At(string what) => folder.At($"{what} {tensor.Name.Length} {tensor.Name[^8..]}");
            var isHead = tensor.Name.Contains("lm_head.", StringComparison.Ordinal) && name.Contains("tied", StringComparison.Ordinal);
            if (others.Count > 0 && !isHead && !s_spare.Any(s => tensor.Name.EndsWith(s, StringComparison.Ordinal)))
            {
                // Where the embedding of a grown vocabulary is missing, the head's is the one that does not fit.
                var named = name.StartsWith("lora_resized", StringComparison.Ordinal) && tensor.Name.EndsWith("embed_tokens.weight", StringComparison.Ordinal) ? "lm_head.weight" : tensor.Name;
                Assert.That(Told(model, At("less"), given.Config, others), Does.Contain(named), "missing");
            }

            using var wider = zeros([.. tensor.Shape, 2], float32);
            Assert.That(Told(model, At("wider"), given.Config, [.. others, TensorFiles.ToWrite(tensor.Name, wider)]), Does.Contain(tensor.Name), "another dimension");

            // A whole embedding may bring a vocabulary of its own.
            if (!tensor.Name.EndsWith("embed_tokens.weight", StringComparison.Ordinal) && !tensor.Name.EndsWith("embed_tokens.base_layer.weight", StringComparison.Ordinal))
            {
                using var taller = zeros([tensor.Shape[0] + 1, .. tensor.Shape.Skip(1)], float32);
                Assert.That(Told(model, At("taller"), given.Config, [.. others, TensorFiles.ToWrite(tensor.Name, taller)]), Does.Contain(tensor.Name), "another size");
            }

            using var values = TensorFiles.Read(file, tensor.Name);
            if (values.is_floating_point())
            {
                using var broken = values.clone();
                _ = broken.view(-1).narrow(0, 0, 1).fill_(double.NaN);
                Assert.That(Told(model, At("broken"), given.Config, [.. others, TensorFiles.ToWrite(tensor.Name, broken)]), Does.Contain(tensor.Name).And.Contain("NaN"));
            }
        }

        using var more = zeros([1], float32);
        var whole = file.Tensors.Select(t => TensorToWrite.FromSource(file, t.Name)).Append(TensorFiles.ToWrite("base_model.model.model.layers.77.self_attn.q_proj.lora_A.weight", more));
        Assert.That(Told(model, folder.At("more"), given.Config, [.. whole]), Does.Contain("layers.77.self_attn.q_proj.lora_A.weight"));
    }

    [TestCaseSource(nameof(Names))]
    public void Settings_that_say_something_else_than_the_file_are_told_with_the_tensor_or_the_setting(string name)
    {
        using var golden = new Golden(name, "adapters2026");
        using var folder = new TemporaryFolder();
        var model = Base(golden);
        var given = AdapterFolder.Open(golden.Folder);
        using var file = given.OpenWeights();
        List<TensorToWrite> whole = [.. file.Tensors.Select(t => TensorToWrite.FromSource(file, t.Name))];
        foreach (var (key, value) in Contradictions(given.Config))
        {
            var settings = given.Config.DeepClone().AsObject();
            settings[key] = value;
            var said = Told(model, folder.At($"{key} {value?.ToJsonString().Length}"), settings, whole);
            Assert.That(said.Contains(key, StringComparison.Ordinal) || file.Tensors.Any(t => said.Contains(t.Name, StringComparison.Ordinal)) || said.Contains("missing: base_model", StringComparison.Ordinal), $"{key}: {value?.ToJsonString()} gives: {said}");
            Assert.That(said.Split('\n')[0], Has.Length.LessThan(1500));
        }
    }

    // Other sizes, and values that are none.
    private static IEnumerable<(string Key, JsonNode? Value)> Contradictions(JsonObject config)
    {
        string[] sizes = ["r", "init_r", "oft_block_size", "boft_block_size", "block_size", "num_virtual_tokens", "num_vectors", "vector_length", "hybrid_r", "n_frequency"];

        // Of AdaLoRA the rank is init_r, and a number of trained frequencies that are spread over modules is no module's own.
        foreach (var key in sizes.Where(k => config[k] is JsonValue size && size.ToString() != "0" && !(k == "r" && config["init_r"] is not null)))
        {
            if (!(key == "init_r" && config["rank_pattern"] is JsonObject { Count: > 0 }))
            {
                yield return (key, 3 * (int)config[key]!);
            }

            yield return (key, -1);
            yield return (key, "many");
            yield return (key, new JsonArray(1, 2));
        }

        if (config["target_modules"] is { } targets && targets is not JsonArray { Count: 0 })
        {
            yield return ("target_modules", new JsonArray("no_such_proj"));
            yield return ("target_modules", new JsonObject { ["q_proj"] = 1 });
        }

        if (config["peft_type"]!.ToString() is "LORA")
        {
            yield return ("use_dora", config["use_dora"] is { } dora && (bool)dora ? false : true);
            yield return ("lora_bias", config["lora_bias"] is { } bias && (bool)bias ? false : true);
            yield return ("bias", "some");
            yield return ("use_rslora", "perhaps");
            yield return ("lora_alpha", "large");
        }

        yield return ("peft_type", "LORE");
    }

    private static string Told(CausalLanguageModel model, string at, JsonObject settings, List<TensorToWrite> tensors)
    {
        AdapterFolder.Write(at, settings, tensors);
        Exception? thrown = null;
        try
        {
            PeftFolder.Load(model, at).Dispose();
        }
        catch (Exception e)
        {
            thrown = e;
        }

        Assert.That(thrown, Is.InstanceOf<InvalidDataException>(), at);
        return thrown!.Message;
    }

    // The first tensor of each name within a module.
    private static IEnumerable<TensorEntry> OneOfEach(SafetensorsFile file) => file.Tensors.Where(static t => t.Shape.Count > 0).DistinctBy(static t => string.Join('.', t.Name.Split('.').Where(static p => !int.TryParse(p, out _)).TakeLast(3)));

    private CausalLanguageModel Base(Golden golden)
    {
        var name = golden.Json["base"]!.ToString();
        if (!_bases.TryGetValue(name, out var loaded))
        {
            _bases[name] = loaded = ModelLoader.Load(Path.Combine(golden.Folder, name), float32, TestDevice.Current);
        }

        return loaded.Model;
    }
}
