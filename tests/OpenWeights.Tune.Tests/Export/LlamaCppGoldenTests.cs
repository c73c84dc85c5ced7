using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.LlamaCpp;
using OpenWeights.Testing;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Tests.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>Mixtures and latent attention as transformers 5 saves them: their GGUF files have transformers' logits in llama.cpp and in this library.</summary>
public sealed class LlamaCppGoldenTests
{
    private static readonly IEnumerable<string> s_models = SharedFiles.Present(
        [
            "mixtral_v5", "qwen3_moe_v5", "glm4_moe", "solar_open", "ernie4_5_moe", "minimax_m2", "hy_v3", "granitemoe", "granitemoeshared", "hunyuan_v1_moe", "mimo_v2_flash", "deepseek_v2",
            "deepseek_v3", "glm4_moe_lite", "mistral4",
        ],
        "goldens", Families2026Tests.Set);

    [TestCaseSource(nameof(s_models))]
    public void A_model_has_the_references_logits_in_llama_cpp_and_here(string name)
    {
        RequiredLlamaCpp.Check();
        using var work = new TemporaryFolder();
        using var golden = new Golden(name, Families2026Tests.Set);
        var folder = Copy(work, golden.Folder, "config.json");
        _ = GgufExport.Write(ModelFolder.Open(folder), null, work["model.gguf"], GgufPreset.Of("f32"));
        using var scope = NewDisposeScope();
        var ids = Golden.Ids(golden.Json["runs"]!["full"]!["input_ids"]!).narrow(0, 0, 1);
        var expected = golden.Tensor("full.logits").narrow(0, 0, 1).squeeze(0);
        int[] tokens = [.. MemoryMarshal.Cast<byte, long>(ids.contiguous().bytes).ToArray().Select(static id => (int)id)];
        using var theirs = new LlamaModel(work["model.gguf"]);
        var logits = theirs.Logits(tokens);
        var actual = tensor(logits.SelectMany(static r => r).ToArray(), [logits.Length, logits[0].Length]);
        var tolerance = Math.Max(1e-4, 4 * golden.Json["float64_max_diff"]!.GetValue<double>());

        // llama.cpp's norms of latent vectors have the epsilon of the others, 1e-5 in this model, where transformers has 1e-6.
        Assert.That(Golden.LargestDifference(actual, expected), Is.LessThan(name == "glm4_moe_lite" ? 3e-4 : tolerance), "llama.cpp");

        GgufFolder.Unpack(work["model.gguf"], work.Folder("unpacked"));
        using var loaded = ModelLoader.Load(work["unpacked"], float32, CPU);
        using var nothing = no_grad();
        Assert.That(Golden.LargestDifference(loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(ids))).squeeze(0), expected), Is.LessThan(tolerance), "read back");
    }

    [TestCaseSource(nameof(s_models))]
    public void The_older_config_is_written_as_the_same_keys(string name)
    {
        using var work = new TemporaryFolder();
        var source = SharedFiles.Require("goldens", Families2026Tests.Set, name);
        if (!File.Exists(Path.Combine(source, "config_v4.json")))
        {
            return;
        }

        var keys = new List<List<string>>();
        foreach (var config in new[] { "config.json", "config_v4.json" })
        {
            var file = work[$"{config}.gguf"];
            _ = GgufExport.Write(ModelFolder.Open(Copy(work, source, config)), null, file, GgufPreset.Of("f32"));
            using var written = GgufFile.Open(file);
            var architecture = written.Metadata.Text("general.architecture");
            keys.Add([.. written.Metadata.Where(k => k.Key.StartsWith($"{architecture}.", StringComparison.Ordinal)).Select(static k => $"{k.Key} {(k.Value is Array list ? string.Join(",", list.Cast<object>()) : k.Value)}")]);
        }

        Assert.That(keys[1], Is.EqualTo(keys[0]));
    }

    private static string Copy(TemporaryFolder work, string source, string config)
    {
        var folder = work.Folder($"model {config}");
        File.Copy(Path.Combine(source, config), Path.Combine(folder, "config.json"));
        File.Copy(Path.Combine(source, "model.safetensors"), Path.Combine(folder, "model.safetensors"));
        ByteTokenizer.Write(folder);
        return folder;
    }
}
