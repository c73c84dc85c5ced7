using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Tests.Layers;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>
/// Dense decoders of transformers 5 computed again in plain float64 loops, each from its modelling file there and its config.json alone: nothing
/// here knows the library's decoder or torch. Rotary embedding is not scaled.
/// </summary>
internal sealed class DenseDefinition(JsonObject config, IReadOnlyDictionary<string, double[]> weights)
{
    private readonly string _family = config["model_type"]!.ToString();
    private readonly int _hidden = (int)config["hidden_size"]!;
    private readonly int _heads = (int)config["num_attention_heads"]!;

    private bool IsNeoX => _family == "gpt_neox";

    private bool IsCohere => _family is "cohere" or "cohere2";

    private string Stack => IsNeoX ? "gpt_neox" : "model";

    private double Epsilon => Number(_family switch { "nemotron" => "norm_eps", "starcoder2" => "norm_epsilon", "cohere" or "cohere2" or "phi" or "stablelm" or "gpt_neox" => "layer_norm_eps", _ => "rms_norm_eps" }, double.NaN);

    /// <summary>Logits of a text, [tokens][vocabulary].</summary>
    internal double[][] Logits(int[] ids)
    {
        var embedding = weights[$"{Stack}.{(IsNeoX ? "embed_in" : "embed_tokens")}.weight"];
        var scale = _family switch { "vaultgemma" => Math.Sqrt(_hidden), "granite_swa" => Number("embedding_multiplier", 1), _ => 1 };
        double[][] x = [.. ids.Select(id => embedding.Skip(id * _hidden).Take(_hidden).Select(v => v * scale).ToArray())];
        x = _family == "nanochat" ? Norm(x, "") : x;
        for (var layer = 0; layer < (int)config["num_hidden_layers"]!; layer++)
        {
            x = Layer(x, layer);
        }

        x = Norm(x, $"{Stack}.{_family switch { "gpt_neox" => "final_layer_norm", "phi" => "final_layernorm", _ => "norm" }}");
        var head = weights.GetValueOrDefault("lm_head.weight") ?? embedding;
        var bias = weights.GetValueOrDefault("lm_head.bias");
        var factor = IsCohere ? Number("logit_scale", 0.0625) : _family == "granite_swa" ? 1 / Number("logits_scaling", 1) : 1;
        var cap = _family switch { "nanochat" => Number("final_logit_softcapping", 15), "vaultgemma" => Number("final_logit_softcapping", 30), _ => double.NaN };
        return [.. x.Select(row => Multiply(head, row, bias).Select(v => v * factor).Select(v => double.IsNaN(cap) ? v : cap * Math.Tanh(v / cap)).ToArray())];
    }

    private double[][] Layer(double[][] x, int layer)
    {
        var name = $"{Stack}.layers.{layer}";
        double[][] Normed(double[][] states, string norm) => Norm(states, $"{name}.{norm}");
        double[][] Attended(double[][] states) => Attention(states, layer);
        double[][] Fed(double[][] states) => FeedForward(states, $"{name}.mlp");
        switch (_family)
        {
            case "cohere" or "cohere2" or "phi":
            case "stablelm" when Flag("use_parallel_residual"):
                var read = Normed(x, "input_layernorm");
                return Sum(x, Attended(read), Fed(read));
            case "gpt_neox" when Flag("use_parallel_residual", true):
                return Sum(x, Attended(Normed(x, "input_layernorm")), Fed(Normed(x, "post_attention_layernorm")));
            case "exaone4" or "olmo3":
                x = Sum(x, Normed(Attended(x), "post_attention_layernorm"));
                return Sum(x, Normed(Fed(x), "post_feedforward_layernorm"));
            case "glm4":
                x = Sum(x, Normed(Attended(Normed(x, "input_layernorm")), "post_self_attn_layernorm"));
                return Sum(x, Normed(Fed(Normed(x, "post_attention_layernorm")), "post_mlp_layernorm"));
            default:
                var (first, second) = _family switch
                {
                    "apertus" => ("attention_layernorm", "feedforward_layernorm"),
                    "vaultgemma" => ("input_layernorm", "pre_feedforward_layernorm"),
                    _ => ("input_layernorm", "post_attention_layernorm"),
                };
                var residual = _family == "granite_swa" ? Number("residual_multiplier", 1) : 1;
                x = Sum(x, Scaled(Attended(Normed(x, first)), residual));
                return Sum(x, Scaled(Fed(Normed(x, second)), residual));
        }
    }

    private double[][] Attention(double[][] x, int layer)
    {
        var width = config["head_dim"] is { } given && !IsNeoX ? (int)given : _hidden / _heads;
        var keyValueHeads = config["num_key_value_heads"] is { } groups ? (int)groups : _heads;
        var slides = Slides(layer);
        var name = $"{Stack}.layers.{layer}.{(IsNeoX ? "attention" : "self_attn")}";
        var norm = QueryNorm();
        var settings = new AttentionSettings
        {
            HiddenSize = _hidden,
            HeadCount = _heads,
            KeyValueHeadCount = keyValueHeads,
            HeadDimension = width,
            Scale = _family switch { "granite_swa" => Number("attention_multiplier", 1), "vaultgemma" => 1 / Math.Sqrt(Number("query_pre_attn_scalar", 256)), _ => 1 / Math.Sqrt(width) },
            ScoreSoftCap = _family == "vaultgemma" ? Number("attn_logit_softcapping", 50) : null,
            QueryScaling = _family == "ministral3" ? new QueryScaling(Number("beta", 0), Number("length", 1), 0) : null,
            HasSinks = _family == "granite_swa",
            Projections = IsNeoX ? QueryKeyValueLayout.FusedByHead : QueryKeyValueLayout.Separate,
            QueryKeyValueBias = weights.ContainsKey($"{name}.{(IsNeoX ? "query_key_value" : "q_proj")}.bias"),
            OutputBias = weights.ContainsKey($"{name}.{Output}.bias"),
            QueryKeyNorm = norm.Kind,
            Norm = norm.Settings,
            NormalizesRotated = _family is "hunyuan_v1_dense" or "nanochat",
            Rope = Rope(layer, slides),
            SlidingWindow = slides ? (int)config["sliding_window"]! : null,
        };
        return new Float64Attention(settings, part => weights.GetValueOrDefault($"{name}.{Renamed(part)}") ?? []).Run(x);
    }

    private string Output => _family is "phi" or "gpt_neox" ? "dense" : "o_proj";

    private string Renamed(string part) => part
        .Replace("o_proj", Output, StringComparison.Ordinal)
        .Replace("qkv_proj", "query_key_value", StringComparison.Ordinal)
        .Replace("q_norm", _family switch { "hunyuan_v1_dense" => "query_layernorm", "phi" or "stablelm" => "q_layernorm", _ => "q_norm" }, StringComparison.Ordinal)
        .Replace("k_norm", _family switch { "hunyuan_v1_dense" => "key_layernorm", "phi" or "stablelm" => "k_layernorm", _ => "k_norm" }, StringComparison.Ordinal);

    private (QueryKeyNorm Kind, NormSettings Settings) QueryNorm() => _family switch
    {
        "apertus" or "exaone4" or "hunyuan_v1_dense" => (QueryKeyNorm.PerHead, new RmsNormSettings(Epsilon)),
        "nanochat" => (QueryKeyNorm.PerHead, new RmsNormSettings(Epsilon, HasWeight: false)),
        "olmo3" => (QueryKeyNorm.AllHeads, new RmsNormSettings(Epsilon)),
        "cohere" when Flag("use_qk_norm") => (QueryKeyNorm.EachHead, new LayerNormSettings(Epsilon, HasBias: false)),
        "stablelm" when Flag("qk_layernorm") => (QueryKeyNorm.EachHead, new LayerNormSettings(Epsilon, HasBias: false, SplitsHeads: true)),
        "phi" when Flag("qk_layernorm") => (QueryKeyNorm.PerHead, new LayerNormSettings(Epsilon)),
        _ => (QueryKeyNorm.None, new RmsNormSettings(Epsilon)),
    };

    private bool Slides(int layer)
    {
        if (config["sliding_window"] is null)
        {
            return false;
        }

        return _family switch
        {
            "ministral3" or "starcoder2" => true,
            "cohere2" or "exaone4" => (layer + 1) % (int)config["sliding_window_pattern"]! != 0,
            "olmo3" => (layer + 1) % 4 != 0,
            "granite_swa" => layer % 4 != 0,
            "vaultgemma" => layer % 2 == 0,
            _ => false,
        };
    }

    private RopeConfig? Rope(int layer, bool slides)
    {
        if ((_family == "cohere2" && !slides) || (_family == "exaone4" && config["sliding_window"] is not null && !slides))
        {
            return null;
        }

        var theta = config["layer_rope_theta"] is { } bases ? (double)bases[layer]! : Number("rope_theta", double.NaN);
        return theta == 0 ? null : new RopeConfig
        {
            Theta = theta,
            RotatedShare = Number("partial_rotary_factor", 1),
            Interleaved = IsCohere || _family is "ernie4_5" or "glm" or "glm4" or "helium",
            IsReversed = _family == "nanochat",
        };
    }

    private double[][] FeedForward(double[][] x, string name)
    {
        (string Up, string Down)? plain = _family switch
        {
            "apertus" or "arcee" or "nemotron" => ("up_proj", "down_proj"),
            "gpt_neox" => ("dense_h_to_4h", "dense_4h_to_h"),
            "nanochat" or "phi" => ("fc1", "fc2"),
            "starcoder2" => ("c_fc", "c_proj"),
            _ => null,
        };
        if (plain is var (up, down))
        {
            return [.. x.Select(row => Linear([.. Linear(row, $"{name}.{up}").Select(v => Act(v, name))], $"{name}.{down}"))];
        }

        return [.. x.Select(row =>
        {
            var both = _family is "glm" or "glm4" ? Linear(row, $"{name}.gate_up_proj") : [.. Linear(row, $"{name}.gate_proj"), .. Linear(row, $"{name}.up_proj")];
            var half = both.Length / 2;
            return Linear([.. both[..half].Zip(both[half..], (g, u) => Act(g, name) * u)], $"{name}.down_proj");
        })];
    }

    private double Act(double x, string name)
    {
        var activation = (config["hidden_activation"] ?? config["hidden_act"])!.ToString();
        switch (activation)
        {
            case "silu":
                return x / (1 + Math.Exp(-x));
            case "relu2":
                return Math.Pow(Math.Max(x, 0), 2);
            case "relu":
                return Math.Max(x, 0);
            case "gelu_new" or "gelu_pytorch_tanh":
                return 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + (0.044715 * x * x * x))));
            default:
                double Part(string part) => weights[$"{name}.act_fn.{part}"][0];
                static double SoftPlus(double v) => Math.Log(1 + Math.Exp(v));
                var slope = Part("beta");
                return x > 0 ? (SoftPlus(Part("alpha_p")) * x * x) + (slope * x)
                    : ((Math.Exp(Math.Min(x, Part("eps"))) - 1 - x) * (slope + SoftPlus(Part("alpha_n")))) + (slope * x);
        }
    }

    private double[][] Norm(double[][] x, string name)
    {
        var centers = IsCohere || IsNeoX || _family is "nemotron" or "phi" or "stablelm" or "starcoder2";
        var added = _family is "nemotron" or "vaultgemma" ? 1 : 0;
        var (weight, bias) = (weights.GetValueOrDefault($"{name}.weight"), weights.GetValueOrDefault($"{name}.bias"));
        return [.. x.Select(row =>
        {
            var mean = centers ? row.Average() : 0;
            var root = Math.Sqrt(row.Average(v => (v - mean) * (v - mean)) + Epsilon);
            return row.Select((v, i) => ((v - mean) / root * (weight is null ? 1 : weight[i] + added)) + (bias is null ? 0 : bias[i])).ToArray();
        })];
    }

    private double[] Linear(double[] row, string name) => Multiply(weights[$"{name}.weight"], row, weights.GetValueOrDefault($"{name}.bias"));

    private double Number(string key, double fallback) => config[key] is { } given ? (double)given : fallback;

    private bool Flag(string key, bool fallback = false) => config[key] is { } given ? (bool)given : fallback;

    private static double[] Multiply(double[] matrix, double[] row, double[]? bias)
    {
        var result = new double[matrix.Length / row.Length];
        for (var o = 0; o < result.Length; o++)
        {
            result[o] = bias?[o] ?? 0;
            for (var i = 0; i < row.Length; i++)
            {
                result[o] += matrix[(o * row.Length) + i] * row[i];
            }
        }

        return result;
    }

    private static double[][] Scaled(double[][] x, double factor) => [.. x.Select(row => row.Select(v => v * factor).ToArray())];

    private static double[][] Sum(params double[][][] parts) =>
        [.. parts[0].Select((row, t) => row.Select((_, i) => parts.Sum(p => p[t][i])).ToArray())];
}
