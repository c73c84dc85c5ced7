using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>Families with mixtures of experts with random settings, in the words of transformers 4 and of transformers 5, against their definitions.</summary>
[Category(TestDevice.Parity)]
public sealed class MixtureFamilyWalkTests
{
    private const int Vocabulary = 23;
    private const int ConfigurationsOfEach = 11;

    private static readonly string[] s_families =
    [
        "afmoe", "dots1", "ernie4_5_moe", "flex_olmo", "glm4_moe", "gpt_oss", "granitemoe", "granitemoeshared", "hunyuan_v1_moe", "hy_v3", "llama4_text", "mellum", "mimo_v2_flash", "minimax_m2", "mixtral",
        "olmoe", "qwen2_moe", "qwen3_moe", "solar_open",
    ];

    [Test]
    public void Logits_are_those_of_the_definition([ValueSource(nameof(s_families))] string family)
    {
        for (var seed = 0; seed < ConfigurationsOfEach; seed++)
        {
            using var scope = NewDisposeScope();
            using var nothing = no_grad();
            var random = new Random((seed * 1000) + family.Length);
            var definition = Draw(family, random);
            var json = random.Next(2) == 0 || family == "gpt_oss" ? Newer(definition) : Older(definition);
            using var source = new VariedWeightSource((ulong)seed + 1);
            using var model = new CausalLanguageModel(FamilyRegistry.Read(json, family), source);
            Correct(model);
            int[] ids = [.. Enumerable.Range(0, random.Next(2, 16)).Select(_ => random.Next(Vocabulary))];
            var expected = new MixtureDefinition(definition, model, model.StoredTensors.ToDictionary(static t => t.Name, static t => Floats(t.Tensor))).Logits(ids);
            var actual = model.Logits(model.call(ModelInput.Rows(tensor([.. ids.Select(static i => (long)i)], [1, ids.Length], device: TestDevice.Current)))).squeeze(0);
            var wanted = tensor([.. expected.SelectMany(static r => r)], [ids.Length, Vocabulary]);
            Assert.That(Golden.LargestDifference(actual, wanted), Is.LessThan(4e-5 * Math.Max(1, wanted.abs().max().ToDouble())), $"seed {seed}: {json.ToJsonString()}");
        }
    }

    // Corrections of the choice are zero in a new model.
    private static void Correct(CausalLanguageModel model)
    {
        using var random = new Generator(3);
        foreach (var (_, buffer) in model.named_buffers())
        {
            _ = buffer.copy_(empty(buffer.shape, float32).uniform_(0, 0.5, random));
        }
    }

    // As transformers 5 writes it; these families have one kind of rotation, or one for each kind of layer.
    private static JsonObject Newer(JsonObject definition)
    {
        var json = Older(definition);
        if (json["rope_parameters"] is null)
        {
            var rope = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = json["rope_theta"]!.DeepClone() };
            if (json["partial_rotary_factor"] is { } share)
            {
                rope["partial_rotary_factor"] = share.DeepClone();
                _ = json.Remove("partial_rotary_factor");
            }

            json["rope_parameters"] = rope;
            _ = json.Remove("rope_theta");
            _ = json.Remove("rope_scaling");
        }

        json["dtype"] = "float32";
        json["transformers_version"] = "5.24.0";
        return json;
    }

    private static JsonObject Older(JsonObject definition)
    {
        var json = definition.DeepClone().AsObject();
        if (json["local_theta"] is { } local)
        {
            JsonObject Rope(JsonNode theta) => new() { ["rope_type"] = "default", ["rope_theta"] = theta.DeepClone() };
            var (full, sliding) = (Rope(json["rope_theta"]!), Rope(local));
            if (json["partial_rotary_factor"] is { } share)
            {
                (full["partial_rotary_factor"], sliding["partial_rotary_factor"]) = (share.DeepClone(), share.DeepClone());
                _ = json.Remove("partial_rotary_factor");
            }

            json["rope_parameters"] = new JsonObject { ["full_attention"] = full, ["sliding_attention"] = sliding };
            _ = (json.Remove("rope_theta"), json.Remove("local_theta"));
        }
        else
        {
            json["rope_scaling"] = null;
        }

        return json;
    }

    private static JsonObject Draw(string family, Random random)
    {
        bool Coin() => random.Next(2) == 0;
        var (groups, layers) = (random.Next(1, 3), random.Next(1, 5));
        var heads = (family == "mimo_v2_flash" ? 2 : 1) * groups * random.Next(1, 3);
        var width = 4 * random.Next(1, 4);
        var (expertGroups, chosenGroups) = (random.Next(1, 4), 1);
        var experts = expertGroups * random.Next(2, 4);
        chosenGroups = random.Next(1, expertGroups + 1);
        var perToken = random.Next(1, Math.Min(experts, chosenGroups * experts / expertGroups) + 1);
        var json = new JsonObject
        {
            ["model_type"] = family,
            ["hidden_size"] = family is "flex_olmo" or "olmoe" or "mixtral" or "granitemoe" or "granitemoeshared" or "qwen2_moe" ? heads * width : 8 * random.Next(1, 4),
            ["intermediate_size"] = 2 * random.Next(2, 10),
            ["num_attention_heads"] = heads,
            ["num_hidden_layers"] = layers,
            ["num_key_value_heads"] = groups,
            ["head_dim"] = width,
            ["vocab_size"] = Vocabulary,
            ["max_position_embeddings"] = 64,
            ["tie_word_embeddings"] = Coin(),
            ["rms_norm_eps"] = Coin() ? 1e-5 : 1e-2,
            ["rope_theta"] = Coin() ? 100.0 : 10000.0,
            ["hidden_act"] = Coin() ? "silu" : "gelu_pytorch_tanh",
        };
        foreach (var (key, value) in Options(family, random, (layers, experts, perToken, expertGroups, chosenGroups, width)))
        {
            json[key] = value;
        }

        return JsonNode.Parse(json.ToJsonString())!.AsObject();
    }

    private static IEnumerable<(string Key, JsonNode? Value)> Options(string family, Random random, (int Layers, int Experts, int PerToken, int Groups, int Chosen, int Width) of)
    {
        bool Coin() => random.Next(2) == 0;
        JsonArray Layers(string one, string other) => new([.. Enumerable.Range(0, of.Layers).Select(_ => (JsonNode)(Coin() ? one : other))]);
        IEnumerable<(string, JsonNode?)> Experts(string count, string perToken, int? most = null) => [(count, of.Experts), (perToken, Math.Min(of.PerToken, most ?? of.PerToken))];
        IEnumerable<(string, JsonNode?)> Inner() => [("moe_intermediate_size", random.Next(2, 9))];
        IEnumerable<(string, JsonNode?)> DeepSeek() =>
        [
            .. Experts("n_routed_experts", "num_experts_per_tok"), .. Inner(), ("n_group", of.Groups), ("topk_group", of.Chosen), ("norm_topk_prob", Coin()),
            ("routed_scaling_factor", 0.5 + random.NextDouble()),
        ];
        return family switch
        {
            "mixtral" => [.. Experts("num_local_experts", "num_experts_per_tok"), ("sliding_window", Coin() ? random.Next(1, 8) : null)],
            "qwen2_moe" =>
            [
                .. Experts("num_experts", "num_experts_per_tok"), .. Inner(), ("shared_expert_intermediate_size", random.Next(2, 9)), ("decoder_sparse_step", random.Next(1, 3)),
                ("mlp_only_layers", Coin() ? new JsonArray() : new JsonArray(0)), ("norm_topk_prob", Coin()), ("use_sliding_window", false), ("sliding_window", Coin() ? 0 : null), ("max_window_layers", 1),
            ],
            "qwen3_moe" =>
            [
                .. Experts("num_experts", "num_experts_per_tok"), .. Inner(), ("decoder_sparse_step", random.Next(1, 3)), ("mlp_only_layers", Coin() ? new JsonArray() : new JsonArray(of.Layers - 1)),
                ("norm_topk_prob", Coin()), ("attention_bias", Coin()), ("use_sliding_window", false), ("sliding_window", null),
            ],
            "olmoe" => [.. Experts("num_experts", "num_experts_per_tok"), ("norm_topk_prob", Coin()), ("attention_bias", Coin()), ("clip_qkv", Coin() ? 0.5 : null)],
            "flex_olmo" => [.. Experts("num_experts", "num_experts_per_tok"), ("norm_topk_prob", Coin()), ("attention_bias", Coin())],
            "glm4_moe" =>
            [
                .. DeepSeek(), ("n_shared_experts", random.Next(1, 3)), ("first_k_dense_replace", random.Next(3)), ("use_qk_norm", Coin()), ("attention_bias", Coin()),
                ("partial_rotary_factor", Coin() ? 0.5 : 1.0),
            ],
            "dots1" =>
            [
                .. DeepSeek(), ("n_shared_experts", random.Next(1, 3)), ("first_k_dense_replace", random.Next(3)), ("attention_bias", Coin()), ("sliding_window", Coin() ? random.Next(1, 8) : null),
                ("max_window_layers", random.Next(3)),
            ],
            "solar_open" => [.. DeepSeek(), ("n_shared_experts", random.Next(1, 3)), ("attention_bias", Coin())],
            "ernie4_5_moe" =>
            [
                .. Experts("moe_num_experts", "moe_k"), .. Inner(), ("moe_num_shared_experts", random.Next(3)), ("moe_layer_interval", random.Next(1, 3)), ("moe_layer_start_index", random.Next(2)),
                ("moe_layer_end_index", random.Next(of.Layers)), ("moe_norm_min", Coin() ? 1e-12 : 0.9), ("use_bias", false),
            ],
            "granitemoe" or "granitemoeshared" =>
            [
                .. Experts("num_local_experts", "num_experts_per_tok"), ("attention_bias", Coin()), ("embedding_multiplier", 2.0), ("attention_multiplier", 0.4), ("residual_multiplier", 0.6),
                ("logits_scaling", 1.5), .. family == "granitemoe" ? [] : new (string, JsonNode?)[] { ("shared_intermediate_size", Coin() ? 0 : random.Next(2, 9)) },
            ],
            "hunyuan_v1_moe" => [.. Experts("num_experts", "moe_topk"), ("attention_bias", Coin())],
            "hy_v3" =>
            [
                .. Experts("num_experts", "num_experts_per_tok"), .. Inner(), ("num_shared_experts", random.Next(1, 3)), ("mlp_layer_types", Layers("dense", "sparse")),
                ("router_scaling_factor", 0.5 + random.NextDouble()), ("attention_bias", Coin()),
            ],
            "minimax_m2" => [.. Experts("num_local_experts", "num_experts_per_tok"), ("rotary_dim", 2 * random.Next(1, (of.Width / 2) + 1))],
            "mellum" =>
            [
                .. Experts("num_experts", "num_experts_per_tok"), .. Inner(), ("norm_topk_prob", Coin()), ("attention_bias", Coin()), ("layer_types", Layers("sliding_attention", "full_attention")),
                ("mlp_layer_types", Layers("dense", "sparse")), ("sliding_window", random.Next(1, 8)), ("local_theta", 50.0),
            ],
            "gpt_oss" => [.. Experts("num_local_experts", "num_experts_per_tok"), ("attention_bias", Coin()), ("sliding_window", random.Next(1, 8)), ("swiglu_limit", 0.3)],
            "llama4_text" =>
            [
                .. Experts("num_local_experts", "num_experts_per_tok"), ("intermediate_size_mlp", random.Next(2, 9)), ("interleave_moe_layer_step", random.Next(1, 3)), ("no_rope_layer_interval", random.Next(2, 5)),
                ("attention_chunk_size", random.Next(2, 9)), ("attn_temperature_tuning", Coin()), ("attn_scale", 0.3), ("floor_scale", random.Next(2, 6)), ("use_qk_norm", Coin()), ("attention_bias", Coin()),
            ],
            "afmoe" =>
            [
                .. Experts("num_experts", "num_experts_per_tok"), .. Inner(), ("num_shared_experts", random.Next(3)), ("num_dense_layers", random.Next(3)), ("global_attn_every_n_layers", random.Next(2, 4)),
                ("sliding_window", random.Next(1, 8)), ("mup_enabled", Coin()), ("route_scale", 0.5 + random.NextDouble()),
            ],
            "mimo_v2_flash" =>
            [
                .. Experts("n_routed_experts", "num_experts_per_tok"), .. Inner(), ("n_group", 1), ("topk_group", 1), ("norm_topk_prob", Coin()), ("routed_scaling_factor", Coin() ? null : 1.3),
                ("v_head_dim", 2 * random.Next(1, 5)), ("attention_value_scale", Coin() ? 0.7 : null), ("layer_types", Layers("sliding_attention", "full_attention")), ("mlp_layer_types", Layers("dense", "sparse")),
                ("sliding_window", random.Next(1, 8)), ("local_theta", 50.0), ("partial_rotary_factor", 0.5), ("attention_bias", Coin()),
            ],
            _ => throw new NotSupportedException(family),
        };
    }

    private static double[] Floats(Tensor values)
    {
        using var scope = NewDisposeScope();
        return Array.ConvertAll(MemoryMarshal.Cast<byte, float>(values.detach().cpu().contiguous().bytes).ToArray(), static v => (double)v);
    }
}
