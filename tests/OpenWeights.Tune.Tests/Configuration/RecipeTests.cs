using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>The recipes are valid, and need the memory that they say, computed from the shapes of the published models.</summary>
public sealed class RecipeTests
{
    // hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim, vocab_size, tied
    private static readonly Dictionary<string, (string Family, int[] Shape, bool Tied)> s_models = new()
    {
        ["HuggingFaceTB/SmolLM2-135M-Instruct"] = ("llama", [576, 1536, 30, 9, 3, 64, 49152], true),
        ["HuggingFaceTB/SmolLM2-360M-Instruct"] = ("llama", [960, 2560, 32, 15, 5, 64, 49152], true),
        ["HuggingFaceTB/SmolLM2-1.7B-Instruct"] = ("llama", [2048, 8192, 24, 32, 32, 64, 49152], true),
        ["Qwen/Qwen3-0.6B"] = ("qwen3", [1024, 3072, 28, 16, 8, 128, 151936], true),
        ["Qwen/Qwen3-1.7B"] = ("qwen3", [2048, 6144, 28, 16, 8, 128, 151936], true),
        ["Qwen/Qwen3-4B-Instruct-2507"] = ("qwen3", [2560, 9728, 36, 32, 8, 128, 151936], true),
        ["Qwen/Qwen3-8B"] = ("qwen3", [4096, 12288, 36, 32, 8, 128, 151936], false),
        ["meta-llama/Llama-3.2-1B-Instruct"] = ("llama", [2048, 8192, 16, 32, 8, 64, 128256], true),
        ["meta-llama/Llama-3.2-3B-Instruct"] = ("llama", [3072, 8192, 28, 24, 8, 128, 128256], true),
        ["meta-llama/Llama-3.1-8B-Instruct"] = ("llama", [4096, 14336, 32, 32, 8, 128, 128256], false),
        ["mistralai/Mistral-7B-Instruct-v0.3"] = ("mistral", [4096, 14336, 32, 32, 8, 128, 32768], false),
        ["google/gemma-3-1b-it"] = ("gemma3_text", [1152, 6912, 26, 4, 1, 256, 262144], true),
    };

    private static readonly IEnumerable<string> s_names = Recipe.All.Select(static r => r.Name);

    [TestCaseSource(nameof(s_names))]
    public void A_recipe_is_valid_and_needs_the_memory_that_it_says(string name)
    {
        using var work = new TemporaryFolder();
        var recipe = Recipe.Find(name.ToUpperInvariant());
        var file = RunConfigFile.Parse(work["train.yaml"], recipe.Text, []);
        Assert.That(recipe.Title, Is.Not.Empty.And.EndWith("."));
        Assert.That(file.Config.OutputDir, Does.EndWith(name));

        var peak = RunMemory.OfLongest(file.Config with { Model = file.Config.Model with { Path = Model(work, recipe.Model), Device = "cpu" } }, work["model"]).Estimate.Total / (double)(1 << 30);
        Assert.That(peak, Is.LessThan(recipe.MemoryGiB).And.GreaterThan(recipe.MemoryGiB / 4.0), $"{peak:F2} GiB");
    }

    [Test]
    public void A_recipe_that_is_not_there_is_told_with_the_nearest() =>
        Assert.That(() => Recipe.Find("qwen3-0.6b-lorra"), Throws.TypeOf<ConfigException>().With.Message.Contains("qwen3-0.6b-lora"));

    private static string Model(TemporaryFolder work, string name)
    {
        var (family, shape, tied) = s_models[name];
        string[] keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"];
        var config = new JsonObject(keys.Zip(shape).Select(static p => KeyValuePair.Create(p.First, (JsonNode?)p.Second)))
        {
            ["model_type"] = family,
            ["tie_word_embeddings"] = tied,
            ["max_position_embeddings"] = 8192,
            ["rms_norm_eps"] = 1e-5,
            ["rope_theta"] = 1e6,
            ["torch_dtype"] = "bfloat16",
            ["hidden_act"] = "silu",
        };
        if (family == "gemma3_text")
        {
            (config["hidden_activation"], config["sliding_window"], config["query_pre_attn_scalar"], config["rope_local_base_freq"]) = ("gelu_pytorch_tanh", 512, 256, 10000);
            config.Remove("hidden_act");
        }

        Directory.CreateDirectory(work["model"]);
        File.WriteAllText(Path.Combine(work["model"], "config.json"), config.ToJsonString());
        return work["model"];
    }
}
