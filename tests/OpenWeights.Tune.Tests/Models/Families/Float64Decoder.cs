using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>
/// Decoders computed again in plain float64 loops, each family from its published definition (its paper, or the modelling file of
/// transformers) and its config.json alone: nothing here knows the library's decoder or torch.
/// </summary>
internal sealed class Float64Decoder(JsonObject config, IReadOnlyDictionary<string, double[]> weights)
{
    private readonly string _family = config["model_type"]!.ToString();
    private readonly int _hidden = (int)config["hidden_size"]!;
    private readonly int _heads = (int)config["num_attention_heads"]!;

    private int KeyValueHeads => config["num_key_value_heads"] is { } given ? (int)given : _heads;

    private int HeadDimension => config["head_dim"] is { } given ? (int)given : _hidden / _heads;

    private bool IsGemma => _family.StartsWith("gemma", StringComparison.Ordinal);

    private double Epsilon => _family is "phi3" or "mixtral" or "olmo2" ? 1e-5 : 1e-6;

    /// <summary>Logits of a text, [tokens][vocabulary].</summary>
    internal double[][] Logits(int[] ids)
    {
        var embedding = weights["model.embed_tokens.weight"];
        var scale = IsGemma ? Math.Sqrt(_hidden) : Number("embedding_multiplier", 1);
        double[][] x = [.. ids.Select(id => embedding.Skip(id * _hidden).Take(_hidden).Select(v => v * scale).ToArray())];
        for (var layer = 0; layer < (int)config["num_hidden_layers"]!; layer++)
        {
            x = Layer(x, layer);
        }

        x = Norm(x, "model.norm");
        var head = weights.GetValueOrDefault("lm_head.weight") ?? embedding;
        double[][] logits = [.. x.Select(row => Multiply(head, row, null))];
        logits = Each(logits, v => v / Number("logits_scaling", 1));
        return config["final_logit_softcapping"] is { } cap ? Each(logits, v => (double)cap * Math.Tanh(v / (double)cap)) : logits;
    }

    private double[][] Layer(double[][] x, int layer)
    {
        var name = $"model.layers.{layer}";
        var residual = Number("residual_multiplier", 1);
        double[][] Read(double[][] states, string norm) => _family == "olmo2" ? states : Norm(states, $"{name}.{norm}");
        double[][] Give(double[][] states, string norm) => _family is "olmo2" or "gemma2" or "gemma3_text" ? Norm(states, $"{name}.{norm}") : states;
        var attended = Attention(Read(x, "input_layernorm"), layer);
        x = Add(x, Give(attended, "post_attention_layernorm"), residual);
        var read = Read(x, _family is "gemma2" or "gemma3_text" ? "pre_feedforward_layernorm" : "post_attention_layernorm");
        return Add(x, Give(FeedForward(read, layer), "post_feedforward_layernorm"), residual);
    }

    private double[][] Attention(double[][] x, int layer)
    {
        var name = $"model.layers.{layer}.self_attn";
        var (q, k, v) = _family == "phi3" ? Fused(Linear(x, $"{name}.qkv_proj")) : (Linear(x, $"{name}.q_proj"), Linear(x, $"{name}.k_proj"), Linear(x, $"{name}.v_proj"));
        if (_family == "olmo2")
        {
            (q, k) = (Norm(q, $"{name}.q_norm"), Norm(k, $"{name}.k_norm"));
        }

        var (d, group) = (HeadDimension, _heads / KeyValueHeads);
        var scale = _family switch
        {
            "granite" => Number("attention_multiplier", 1),
            "gemma2" or "gemma3_text" => 1 / Math.Sqrt(Number("query_pre_attn_scalar", 256)),
            _ => 1 / Math.Sqrt(d),
        };
        var window = Window(layer);
        var mixed = x.Select(_ => new double[_heads * d]).ToArray();
        for (var h = 0; h < _heads; h++)
        {
            var query = Rotated(Head(q, h, $"{name}.q_norm"), layer);
            var key = Rotated(Head(k, h / group, $"{name}.k_norm"), layer);
            for (var t = 0; t < x.Length; t++)
            {
                var first = Math.Max(0, t - window + 1);
                var scores = Enumerable.Range(first, t - first + 1).Select(s => scale * Dot(query[t], key[s])).ToArray();
                if (config["attn_logit_softcapping"] is { } cap)
                {
                    scores = [.. scores.Select(s => (double)cap * Math.Tanh(s / (double)cap))];
                }

                var shares = Softmax(scores);
                for (var s = first; s <= t; s++)
                {
                    for (var i = 0; i < d; i++)
                    {
                        mixed[t][(h * d) + i] += shares[s - first] * v[s][(h / group * d) + i];
                    }
                }
            }
        }

        return Linear(mixed, $"{name}.o_proj");
    }

    private (double[][] Q, double[][] K, double[][] V) Fused(double[][] all)
    {
        var (queries, keys) = (_heads * HeadDimension, KeyValueHeads * HeadDimension);
        return ([.. all.Select(r => r[..queries])], [.. all.Select(r => r[queries..(queries + keys)])], [.. all.Select(r => r[(queries + keys)..])]);
    }

    private double[][] Head(double[][] states, int head, string norm)
    {
        double[][] own = [.. states.Select(row => row[(head * HeadDimension)..((head + 1) * HeadDimension)])];
        return _family is "qwen3" or "qwen3_moe" or "gemma3_text" ? Norm(own, norm) : own;
    }

    private int Window(int layer)
    {
        var window = config["sliding_window"] is { } size ? (int)size : int.MaxValue;
        var slides = _family switch
        {
            "mistral" or "mixtral" or "phi3" => true,
            "gemma2" => layer % 2 == 0,
            "gemma3_text" => (layer + 1) % (int)config["sliding_window_pattern"]! != 0,
            "qwen2" => (bool)config["use_sliding_window"]! && layer >= (int)config["max_window_layers"]!,
            "smollm3" => (bool)config["use_sliding_window"]! && (int)config["no_rope_layers"]![layer]! == 0,
            _ => false,
        };
        return slides ? window : int.MaxValue;
    }

    private double[][] Rotated(double[][] head, int layer)
    {
        if (_family == "smollm3" && (int)config["no_rope_layers"]![layer]! == 0)
        {
            return head;
        }

        var (frequencies, scale) = Frequencies(layer, head.Length);
        var half = frequencies.Length;
        return [.. head.Select((row, position) =>
        {
            var turned = (double[])row.Clone();
            for (var i = 0; i < half; i++)
            {
                var (sin, cos) = Math.SinCos(position * frequencies[i]);
                turned[i] = scale * ((row[i] * cos) - (row[i + half] * sin));
                turned[i + half] = scale * ((row[i + half] * cos) + (row[i] * sin));
            }

            return turned;
        })];
    }

    // RoPE (Su et al., 2021), position interpolation (Chen et al., 2023), dynamic NTK, YaRN (Peng et al., 2023, section 3.2 and equation
    // 22) and LongRoPE (Ding et al., 2024).
    private (double[] Frequencies, double Scale) Frequencies(int layer, int tokens)
    {
        var local = _family == "gemma3_text" && (layer + 1) % (int)config["sliding_window_pattern"]! != 0;
        var dimensions = (int)(HeadDimension * Number("partial_rotary_factor", 1));
        var theta = local ? Number("rope_local_base_freq", 10000) : Number("rope_theta", _family switch { "mixtral" or "gemma3_text" => 1e6, "smollm3" => 2e6, _ => 10000 });
        var scaling = local ? null : config["rope_scaling"]?.AsObject();
        var type = (scaling?["rope_type"] ?? scaling?["type"])?.ToString();
        var context = Number("max_position_embeddings", 0);
        if (type == "dynamic")
        {
            var factor = (double)scaling!["factor"]!;
            theta *= Math.Pow((factor * Math.Max(tokens, context) / context) - (factor - 1), dimensions / (dimensions - 2.0));
        }

        double[] plain = [.. Enumerable.Range(0, dimensions / 2).Select(i => Math.Pow(theta, -2.0 * i / dimensions))];
        switch (type)
        {
            case "linear":
                return ([.. plain.Select(f => f / (double)scaling!["factor"]!)], 1);
            case "longrope":
                var original = Number("original_max_position_embeddings", 0);
                var factors = scaling![tokens > original ? "long_factor" : "short_factor"]!.AsArray();
                return ([.. plain.Select((f, i) => f / (double)factors[i]!)], Math.Sqrt(1 + (Math.Log(context / original) / Math.Log(original))));
            case "yarn":
                var stretch = (double)scaling!["factor"]!;
                var trained = (double)scaling["original_max_position_embeddings"]!;
                double Bound(double rotations) => dimensions * Math.Log(trained / (2 * Math.PI * rotations)) / (2 * Math.Log(theta));
                var (low, high) = (Math.Max(0, Bound((double)scaling["beta_fast"]!)), Math.Min(dimensions - 1, Bound(1)));
                return ([.. plain.Select((f, i) =>
                {
                    var ramp = Math.Clamp((i - low) / (high - low), 0, 1);
                    return (f / stretch * ramp) + (f * (1 - ramp));
                })], (0.1 * Math.Log(stretch)) + 1);
            default:
                return (plain, 1);
        }
    }

    private double[][] FeedForward(double[][] x, int layer)
    {
        var name = $"model.layers.{layer}";
        var plain = config["mlp_only_layers"]?.AsArray().Any(l => (int)l! == layer) == true || (layer + 1) % (int)Number("decoder_sparse_step", 1) != 0;
        return _family switch
        {
            "mixtral" => Mixture(x, $"{name}.mlp", "num_local_experts", normalizes: true),
            "qwen2_moe" or "qwen3_moe" when !plain => Mixture(x, $"{name}.mlp", "num_experts", (bool)config["norm_topk_prob"]!),
            _ => Gated(x, $"{name}.mlp"),
        };
    }

    private double[][] Gated(double[][] x, string name)
    {
        double[][] gate, up;
        if (_family == "phi3")
        {
            var both = Linear(x, $"{name}.gate_up_proj");
            (gate, up) = ([.. both.Select(static r => r[..(r.Length / 2)])], [.. both.Select(static r => r[(r.Length / 2)..])]);
        }
        else
        {
            (gate, up) = (Linear(x, $"{name}.gate_proj"), Linear(x, $"{name}.up_proj"));
        }

        return Linear([.. gate.Zip(up, (g, u) => g.Zip(u, (a, b) => Act(a) * b).ToArray())], $"{name}.down_proj");
    }

    private double Act(double v) => IsGemma ? 0.5 * v * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (v + (0.044715 * v * v * v)))) : v / (1 + Math.Exp(-v));

    // The matrices of all experts lie one behind the other, and in each gate lies above up.
    private double[] Expert(double[] row, string name, int expert, int count)
    {
        double[] Part(string matrix) => weights[$"{name}.{matrix}"] is var all && all.Length / count is var each ? all[(expert * each)..((expert + 1) * each)] : [];
        var both = Multiply(Part("gate_up_proj"), row, null);
        return Multiply(Part("down_proj"), [.. both[..(both.Length / 2)].Zip(both[(both.Length / 2)..], (g, u) => Act(g) * u)], null);
    }

    private double[][] Mixture(double[][] x, string name, string countSetting, bool normalizes)
    {
        var perToken = (int)config["num_experts_per_tok"]!;
        return [.. x.Select(row =>
        {
            var shares = Softmax(Multiply(weights[$"{name}.gate.weight"], row, null));
            var count = (int)config[countSetting]!;
            var chosen = Enumerable.Range(0, count).OrderByDescending(e => shares[e]).Take(perToken).ToArray();
            var sum = normalizes ? chosen.Sum(e => shares[e]) : 1;
            var mixed = new double[_hidden];
            foreach (var expert in chosen)
            {
                AddTo(mixed, Expert(row, $"{name}.experts", expert, count), shares[expert] / sum);
            }

            if (_family == "qwen2_moe")
            {
                var open = 1 / (1 + Math.Exp(-Dot(weights[$"{name}.shared_expert_gate.weight"], row)));
                AddTo(mixed, Gated([row], $"{name}.shared_expert")[0], open);
            }

            return mixed;
        })];
    }

    private double[][] Norm(double[][] x, string name)
    {
        var weight = weights[$"{name}.weight"];
        return [.. x.Select(row =>
        {
            var inverse = 1 / Math.Sqrt((row.Sum(static v => v * v) / row.Length) + Epsilon);
            return row.Select((v, i) => v * inverse * (IsGemma ? 1 + weight[i] : weight[i])).ToArray();
        })];
    }

    private double[][] Linear(double[][] x, string name) => [.. x.Select(row => Multiply(weights[$"{name}.weight"], row, weights.GetValueOrDefault($"{name}.bias")))];

    private double Number(string key, double fallback) => config[key] is { } given ? (double)given : fallback;

    private static double[] Multiply(double[] matrix, double[] row, double[]? bias) =>
        [.. Enumerable.Range(0, matrix.Length / row.Length).Select(o => Dot(matrix.AsSpan(o * row.Length, row.Length), row) + (bias?[o] ?? 0))];

    private static double Dot(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        var sum = 0.0;
        for (var i = 0; i < a.Length; i++)
        {
            sum += a[i] * b[i];
        }

        return sum;
    }

    private static double[] Softmax(double[] scores)
    {
        var largest = scores.Max();
        var exponentials = scores.Select(s => Math.Exp(s - largest)).ToArray();
        var sum = exponentials.Sum();
        return [.. exponentials.Select(e => e / sum)];
    }

    private static double[][] Add(double[][] x, double[][] y, double factor) => [.. x.Zip(y, (a, b) => a.Zip(b, (u, v) => u + (factor * v)).ToArray())];

    private static double[][] Each(double[][] x, Func<double, double> change) => [.. x.Select(row => row.Select(change).ToArray())];

    private static void AddTo(double[] sum, double[] row, double factor)
    {
        for (var i = 0; i < sum.Length; i++)
        {
            sum[i] += factor * row[i];
        }
    }
}
