using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>Dense families with random settings against their definitions.</summary>
[Category(TestDevice.Parity)]
public sealed class DenseWalkTests
{
    private const int Vocabulary = 23;
    private const int ConfigurationsOfEach = 10;

    private static readonly string[] s_families =
    [
        "apertus", "arcee", "cohere", "cohere2", "ernie4_5", "exaone4", "glm", "glm4", "gpt_neox", "granite_swa", "helium", "hunyuan_v1_dense", "internlm3", "ministral3", "nanochat",
        "nemotron", "olmo3", "phi", "seed_oss", "stablelm", "starcoder2", "vaultgemma",
    ];

    [Test]
    public void Logits_are_those_of_the_definition([ValueSource(nameof(s_families))] string family)
    {
        for (var seed = 0; seed < ConfigurationsOfEach; seed++)
        {
            using var scope = NewDisposeScope();
            using var nothing = no_grad();
            var random = new Random((seed * 1000) + family.Length);
            var (json, definition) = Draw(family, random);
            using var source = new VariedWeightSource((ulong)seed + 1);
            using var model = new CausalLanguageModel(FamilyRegistry.Read(json, family), source);
            int[] ids = [.. Enumerable.Range(0, random.Next(2, 20)).Select(_ => random.Next(Vocabulary))];
            var expected = new DenseDefinition(definition, model.StoredTensors.ToDictionary(static t => t.Name, static t => Floats(t.Tensor))).Logits(ids);
            var actual = model.Logits(model.call(ModelInput.Rows(tensor([.. ids.Select(static i => (long)i)], [1, ids.Length], device: TestDevice.Current)))).squeeze(0);
            var wanted = tensor([.. expected.SelectMany(static r => r)], [ids.Length, Vocabulary]);
            Assert.That(Golden.LargestDifference(actual, wanted), Is.LessThan(4e-5 * Math.Max(1, wanted.abs().max().ToDouble())), json.ToJsonString());
        }
    }

    // A config.json, and the same with what the definition reads elsewhere.
    private static (JsonObject Json, JsonObject Definition) Draw(string family, Random random)
    {
        bool Coin() => random.Next(2) == 0;
        var groups = random.Next(1, 3);
        var heads = family == "gpt_neox" ? groups : groups * random.Next(1, 4);
        var width = 4 * random.Next(1, 4);
        var own = Coin() && family is "arcee" or "ernie4_5" or "glm" or "glm4" or "hunyuan_v1_dense" or "ministral3" or "nemotron" or "seed_oss" or "vaultgemma";
        var hidden = own ? 8 * random.Next(1, 4) : heads * width;
        var norm = FamilyRegistry.Find(family, family).Facts.NormEpsilonSetting;
        var json = new JsonObject
        {
            ["model_type"] = family,
            ["hidden_size"] = hidden,
            ["intermediate_size"] = random.Next(3, 30),
            ["num_attention_heads"] = heads,
            ["num_hidden_layers"] = random.Next(1, 6),
            ["num_key_value_heads"] = groups,
            ["head_dim"] = width,
            ["vocab_size"] = Vocabulary,
            ["max_position_embeddings"] = 64,
            ["tie_word_embeddings"] = family != "phi" && Coin(),
            [norm] = Coin() ? 1e-5 : 1e-2,
            ["rope_theta"] = Coin() ? 100.0 : 10000.0,
            ["rope_scaling"] = null,
            ["hidden_act"] = new[] { "silu", "relu2", "relu", "gelu_new", "gelu_pytorch_tanh" }[random.Next(5)],
        };
        foreach (var (key, value) in Options(family, random, width))
        {
            json[key] = value;
        }

        var definition = (JsonObject)json.DeepClone();
        if (family == "ministral3")
        {
            var (beta, length) = (random.NextDouble(), random.Next(2, 9));
            json["rope_scaling"] = new JsonObject { ["rope_type"] = "yarn", ["factor"] = 1.0, ["original_max_position_embeddings"] = length, ["llama_4_scaling_beta"] = beta };
            (definition["beta"], definition["length"]) = (beta, length);
        }

        return (json, JsonNode.Parse(definition.ToJsonString())!.AsObject());
    }

    private static IEnumerable<(string Key, JsonNode? Value)> Options(string family, Random random, int width)
    {
        bool Coin() => random.Next(2) == 0;
        var flags = family switch
        {
            "arcee" or "helium" or "nemotron" => ["attention_bias", "mlp_bias"],
            "granite_swa" => ["attention_bias", "mlp_bias"],
            "apertus" or "cohere2" or "glm" or "glm4" or "hunyuan_v1_dense" or "nanochat" or "olmo3" or "vaultgemma" => ["attention_bias"],
            "cohere" => ["attention_bias", "use_qk_norm"],
            "ernie4_5" or "starcoder2" => ["use_bias"],
            "gpt_neox" => ["attention_bias", "use_parallel_residual"],
            "internlm3" => ["qkv_bias", "bias"],
            "phi" => ["qk_layernorm"],
            "seed_oss" => ["attention_bias", "attention_out_bias", "mlp_bias"],
            "stablelm" => ["qk_layernorm", "use_parallel_residual", "use_qkv_bias"],
            _ => Array.Empty<string>(),
        };
        foreach (var flag in flags)
        {
            yield return (flag, Coin());
        }

        if (family is "glm" or "glm4" or "gpt_neox" or "nemotron" or "phi" or "stablelm")
        {
            yield return ("partial_rotary_factor", width % 4 == 0 && Coin() ? 0.5 : 1.0);
        }

        if (family is "cohere2" or "exaone4" or "granite_swa" or "ministral3" or "olmo3" or "starcoder2" or "vaultgemma")
        {
            yield return ("sliding_window", family is "granite_swa" or "vaultgemma" || Coin() ? random.Next(1, 9) : null);
        }

        if (family is "cohere2" or "exaone4")
        {
            yield return ("sliding_window_pattern", random.Next(2, 5));
        }

        switch (family)
        {
            case "apertus" when Coin():
                yield return ("hidden_act", "xielu");
                break;
            case "cohere" or "cohere2":
                yield return ("logit_scale", 0.3);
                break;
            case "granite_swa":
                yield return ("layer_rope_theta", Coin() ? null : new JsonArray(100.0, 0, 50.0, 100.0, 0));
                yield return ("embedding_multiplier", 2.0);
                yield return ("attention_multiplier", 0.4);
                yield return ("residual_multiplier", 0.6);
                yield return ("logits_scaling", 1.5);
                break;
            case "nanochat":
                yield return ("final_logit_softcapping", 3.0);
                break;
            case "vaultgemma":
                yield return ("hidden_act", null);
                yield return ("hidden_activation", "gelu_pytorch_tanh");
                yield return ("query_pre_attn_scalar", random.Next(3, 20));
                yield return ("attn_logit_softcapping", 2.0);
                yield return ("final_logit_softcapping", 3.0);
                break;
        }
    }

    private static double[] Floats(Tensor values)
    {
        using var scope = NewDisposeScope();
        return Array.ConvertAll(MemoryMarshal.Cast<byte, float>(values.detach().cpu().contiguous().bytes).ToArray(), static v => (double)v);
    }
}
