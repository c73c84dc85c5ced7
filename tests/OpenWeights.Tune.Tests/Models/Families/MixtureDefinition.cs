using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Tests.Layers;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>
/// Decoders with mixtures of experts computed again in float64, each from its modelling file in transformers 5 and its config.json (in transformers 4's
/// words) alone; only attention and the mixture are those of <see cref="Float64Attention"/> and <see cref="Float64Mixture"/>.
/// </summary>
internal sealed class MixtureDefinition(JsonObject config, CausalLanguageModel model, IReadOnlyDictionary<string, double[]> weights)
{
    private readonly string _family = config["model_type"]!.ToString();
    private readonly int _hidden = (int)config["hidden_size"]!;
    private readonly int _heads = (int)config["num_attention_heads"]!;

    private bool IsGranite => _family is "granitemoe" or "granitemoeshared";

    private double Epsilon => Number("rms_norm_eps", double.NaN);

    /// <summary>Logits of a text, [tokens][vocabulary].</summary>
    internal double[][] Logits(int[] ids)
    {
        var embedding = weights["model.embed_tokens.weight"];
        var scale = IsGranite ? Number("embedding_multiplier", 1) : _family == "afmoe" && Flag("mup_enabled") ? Math.Sqrt(_hidden) : 1;
        double[][] x = [.. ids.Select(id => embedding.Skip(id * _hidden).Take(_hidden).Select(v => v * scale).ToArray())];
        for (var layer = 0; layer < (int)config["num_hidden_layers"]!; layer++)
        {
            x = Layer(x, layer);
        }

        var head = weights.GetValueOrDefault("lm_head.weight") ?? embedding;
        var factor = IsGranite ? 1 / Number("logits_scaling", 1) : 1;
        return [.. Norm(x, "model.norm").Select(row => Multiply(head, row, null).Select(v => v * factor).ToArray())];
    }

    private double[][] Layer(double[][] x, int layer)
    {
        var name = $"model.layers.{layer}";
        double[][] Normed(double[][] states, string norm) => Norm(states, $"{name}.{norm}");
        switch (_family)
        {
            case "flex_olmo":
                x = Sum(x, Normed(Attention(x, layer), "post_attention_layernorm"));
                return Sum(x, Normed(FeedForward(x, layer), "post_feedforward_layernorm"));
            case "afmoe":
                x = Sum(x, Normed(Attention(Normed(x, "input_layernorm"), layer), "post_attention_layernorm"));
                return Sum(x, Normed(FeedForward(Normed(x, "pre_mlp_layernorm"), layer), "post_mlp_layernorm"));
            default:
                var residual = IsGranite ? Number("residual_multiplier", 1) : 1;
                x = Sum(x, Scaled(Attention(Normed(x, "input_layernorm"), layer), residual));
                return Sum(x, Scaled(FeedForward(Normed(x, "post_attention_layernorm"), layer), residual));
        }
    }

    private double[][] Attention(double[][] x, int layer)
    {
        var width = (int)config["head_dim"]!;
        var groups = (int)config["num_key_value_heads"]!;
        var (name, slides, isLlama) = ($"model.layers.{layer}.self_attn", Slides(layer), _family == "llama4_text");
        var rotates = isLlama ? (layer + 1) % (int)Number("no_rope_layer_interval", 4) != 0 : _family != "afmoe" || slides;
        var isMimo = _family == "mimo_v2_flash";
        var settings = new AttentionSettings
        {
            HiddenSize = _hidden,
            HeadCount = _heads,
            KeyValueHeadCount = isMimo && slides ? 2 * groups : groups,
            HeadDimension = width,
            ValueHeadDimension = isMimo ? (int)config["v_head_dim"]! : null,
            ValueMultiplier = isMimo ? Number("attention_value_scale", 1) : 1,
            Scale = IsGranite ? Number("attention_multiplier", 1) : 1 / Math.Sqrt(width),
            QueryScaling = isLlama && !rotates && Flag("attn_temperature_tuning") ? new QueryScaling(Number("attn_scale", 0), Number("floor_scale", 0), 1) : null,
            ProjectionLimit = _family == "olmoe" && config["clip_qkv"] is { } limit ? (double)limit : null,
            HasSinks = _family == "gpt_oss" || (isMimo && slides),
            QueryKeyValueBias = weights.ContainsKey($"{name}.q_proj.bias"),
            OutputBias = weights.ContainsKey($"{name}.o_proj.bias"),
            OutputGate = _family == "afmoe" ? OutputGate.PerElement : OutputGate.None,
            QueryKeyNorm = _family switch
            {
                "olmoe" or "flex_olmo" or "minimax_m2" => QueryKeyNorm.AllHeads,
                "qwen3_moe" or "dots1" or "hunyuan_v1_moe" or "hy_v3" or "mellum" or "afmoe" => QueryKeyNorm.PerHead,
                "glm4_moe" when Flag("use_qk_norm") => QueryKeyNorm.PerHead,
                "llama4_text" when rotates && Flag("use_qk_norm") => QueryKeyNorm.PerHead,
                _ => QueryKeyNorm.None,
            },
            Norm = new RmsNormSettings(Epsilon, HasWeight: !isLlama),
            NormalizesRotated = isLlama || _family == "hunyuan_v1_moe",
            Rope = !rotates ? null : new RopeConfig
            {
                Theta = Number(_family is "mellum" or "mimo_v2_flash" && slides ? "local_theta" : "rope_theta", double.NaN),
                RotatedShare = _family == "minimax_m2" ? Number("rotary_dim", width) / width : Number("partial_rotary_factor", 1),
                Interleaved = isLlama || _family == "ernie4_5_moe",
            },
            SlidingWindow = slides && !isLlama ? (int)config["sliding_window"]! : null,
            ChunkSize = isLlama && rotates ? (int)config["attention_chunk_size"]! : null,
        };
        return new Float64Attention(settings, part => weights.GetValueOrDefault($"{name}.{Renamed(part)}") ?? []).Run(x);
    }

    private string Renamed(string part) => _family != "hunyuan_v1_moe" ? part
        : part.Replace("q_norm", "query_layernorm", StringComparison.Ordinal).Replace("k_norm", "key_layernorm", StringComparison.Ordinal);

    private bool Slides(int layer) => config["sliding_window"] is not null && _family switch
    {
        "mixtral" => true,
        "dots1" => layer >= (int)config["max_window_layers"]!,
        "gpt_oss" => layer % 2 == 0,
        "afmoe" => (layer + 1) % (int)config["global_attn_every_n_layers"]! != 0,
        "mellum" or "mimo_v2_flash" => config["layer_types"]![layer]!.ToString() == "sliding_attention",
        _ => false,
    };

    private double[][] FeedForward(double[][] x, int layer)
    {
        var (name, inside) = ($"model.layers.{layer}", _family == "llama4_text" ? "feed_forward" : "mlp");
        if (!IsSparse(layer))
        {
            return Gated(x, $"{name}.{inside}");
        }

        var mixture = model.Stack.Layers[layer].Parts().Select(static p => p.Part).OfType<MixtureOfExperts>().Single();
        var routed = new Float64Mixture(Settings(), mixture).Of([.. x.SelectMany(static r => r)]).Chunk(_hidden).ToArray();
        switch (_family)
        {
            case "qwen2_moe":
                var open = x.Select(row => 1 / (1 + Math.Exp(-Multiply(weights[$"{name}.mlp.shared_expert_gate.weight"], row, null)[0]))).ToArray();
                return Sum(routed, [.. Gated(x, $"{name}.mlp.shared_expert").Select((row, t) => row.Select(v => v * open[t]).ToArray())]);
            case "llama4_text":
                return Sum(routed, Gated(x, $"{name}.feed_forward.shared_expert"));
            case "hunyuan_v1_moe":
                return Sum(routed, Gated(x, $"{name}.mlp.shared_mlp"));
            case "granitemoeshared" when Number("shared_intermediate_size", 0) > 0:
                return Sum(routed, [.. x.Select(row =>
                {
                    var both = Multiply(weights[$"{name}.shared_mlp.input_linear.weight"], row, null);
                    var half = both.Length / 2;
                    return Multiply(weights[$"{name}.shared_mlp.output_linear.weight"], [.. both[..half].Zip(both[half..], (g, u) => Act(g) * u)], null);
                })]);
            default:
                return Number(SharedSetting, 0) > 0 ? Sum(routed, Gated(x, $"{name}.mlp.shared_experts")) : routed;
        }
    }

    private string SharedSetting => _family switch { "ernie4_5_moe" => "moe_num_shared_experts", "hy_v3" or "afmoe" => "num_shared_experts", _ => "n_shared_experts" };

    private bool IsSparse(int layer) => _family switch
    {
        "qwen2_moe" or "qwen3_moe" => (layer + 1) % (int)config["decoder_sparse_step"]! == 0 && !config["mlp_only_layers"]!.AsArray().Any(l => (int)l! == layer),
        "glm4_moe" or "dots1" => layer >= (int)config["first_k_dense_replace"]!,
        "afmoe" => layer >= (int)config["num_dense_layers"]!,
        "hy_v3" or "mellum" or "mimo_v2_flash" => config["mlp_layer_types"]![layer]!.ToString() == "sparse",
        "ernie4_5_moe" => (layer + 1) % (int)config["moe_layer_interval"]! == 0 && layer >= (int)config["moe_layer_start_index"]! && layer <= (int)config["moe_layer_end_index"]!,
        "llama4_text" => (layer + 1) % (int)config["interleave_moe_layer_step"]! == 0,
        _ => true,
    };

    private MixtureSettings Settings()
    {
        var perToken = (int)config[_family switch { "ernie4_5_moe" => "moe_k", "hunyuan_v1_moe" => "moe_topk", _ => "num_experts_per_tok" }]!;
        var count = (int)config[_family switch
        {
            "mixtral" or "granitemoe" or "granitemoeshared" or "minimax_m2" or "gpt_oss" or "llama4_text" => "num_local_experts",
            "glm4_moe" or "dots1" or "solar_open" or "mimo_v2_flash" => "n_routed_experts",
            "ernie4_5_moe" => "moe_num_experts",
            _ => "num_experts",
        }]!;
        var isOss = _family == "gpt_oss";
        return new MixtureSettings
        {
            ExpertsName = IsGranite ? "block_sparse_moe.experts" : "experts",
            ExpertsPerToken = perToken,
            ScalesInput = _family == "llama4_text",
            Router = Router(count),
            Experts = new ExpertSettings
            {
                Count = count,
                CountSetting = "",
                HiddenSize = _hidden,
                Inner = new Dimension("", 1),
                Activation = config["hidden_act"]!.ToString() == "silu" ? Activation.Silu : Activation.GeluTanh,
                HasBias = isOss,
                IsTransposed = isOss || _family == "llama4_text",
                IsInterleaved = isOss,
                Clamp = isOss ? new ClampedGate(1.702, Number("swiglu_limit", 7)) : null,
            },
        };
    }

    private RouterSettings Router(int count)
    {
        var groups = (int)Number("n_group", 1);
        var deepSeek = new RouterSettings
        {
            Scoring = RouterScoring.Sigmoid,
            Correction = "gate.e_score_correction_bias",
            Normalizes = Flag("norm_topk_prob"),
            SumEpsilon = 1e-20,
            Scale = Number("routed_scaling_factor", 1),
            Groups = groups > 1 ? new ExpertGroups(groups, (int)config["topk_group"]!, 2) : null,
        };
        return _family switch
        {
            "mixtral" => new RouterSettings { Normalizes = true },
            "qwen2_moe" or "qwen3_moe" or "olmoe" or "flex_olmo" or "mellum" => new RouterSettings { Normalizes = Flag("norm_topk_prob") },
            "granitemoe" or "granitemoeshared" => new RouterSettings { Name = "block_sparse_moe.router", Scoring = RouterScoring.SoftmaxOfChosen },
            "gpt_oss" => new RouterSettings { Name = "router", HasBias = true, Scoring = RouterScoring.SoftmaxOfChosen },
            "llama4_text" => new RouterSettings { Name = "router", Scoring = RouterScoring.Sigmoid },
            "hunyuan_v1_moe" => new RouterSettings { Name = "gate.wg", Normalizes = true },
            "hy_v3" => deepSeek with { Correction = "e_score_correction_bias", Normalizes = true, Scale = Number("router_scaling_factor", 1), Groups = null },
            "minimax_m2" => deepSeek with { Correction = "e_score_correction_bias", Normalizes = true, SumEpsilon = 0, Scale = 1, Groups = null },
            "afmoe" => deepSeek with { Name = "router.gate", Correction = "expert_bias", Normalizes = true, Scale = Number("route_scale", 1), Groups = null },
            "ernie4_5_moe" => new RouterSettings { Correction = "moe_statics.e_score_correction_bias", Normalizes = true, LeastSum = Number("moe_norm_min", 1e-12) },
            _ => deepSeek,
        };
    }

    private double[][] Gated(double[][] x, string name) => [.. x.Select(row =>
    {
        var gate = Linear(row, $"{name}.gate_proj");
        return Linear([.. gate.Zip(Linear(row, $"{name}.up_proj"), (g, u) => Act(g) * u)], $"{name}.down_proj");
    })];

    private double Act(double x) => config["hidden_act"]!.ToString() == "silu" ? x / (1 + Math.Exp(-x)) : 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + (0.044715 * x * x * x))));

    private double[][] Norm(double[][] x, string name) => [.. x.Select(row =>
    {
        var root = Math.Sqrt(row.Average(static v => v * v) + Epsilon);
        return row.Select((v, i) => v / root * weights[$"{name}.weight"][i]).ToArray();
    })];

    private double[] Linear(double[] row, string name) => Multiply(weights[$"{name}.weight"], row, weights.GetValueOrDefault($"{name}.bias"));

    private double Number(string key, double fallback) => config[key] is { } given ? (double)given : fallback;

    private bool Flag(string key) => config[key] is { } given && (bool)given;

    private static double[] Multiply(double[] matrix, double[] row, double[]? bias) =>
        [.. matrix.Chunk(row.Length).Select((weight, o) => weight.Zip(row, static (w, v) => w * v).Sum() + (bias?[o] ?? 0))];

    private static double[][] Scaled(double[][] x, double factor) => [.. x.Select(row => row.Select(v => v * factor).ToArray())];

    private static double[][] Sum(double[][] x, double[][] y) => [.. x.Zip(y, static (a, b) => a.Zip(b, static (u, v) => u + v).ToArray())];
}
