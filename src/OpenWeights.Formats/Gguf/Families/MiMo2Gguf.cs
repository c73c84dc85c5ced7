using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>MiMo-V2-Flash: values of another width, sinks and twice the key/value heads in layers with a window, and the router of DeepSeek-V3.</summary>
internal sealed class MiMo2Gguf : GgufFamily
{
    private const string PatternKey = "mimo2.attention.sliding_window_pattern";
    private const string Full = "full_attention";
    private const string Sliding = "sliding_attention";
    private const double RotatedShare = 0.334;

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.MiMoV2Flash;

    /// <inheritdoc/>
    public override string Architecture => "mimo2";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules => [.. base.Modules, ("mlp.gate", "ffn_gate_inp"), .. MixtureKeys.Experts()];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors =>
        [("mlp.gate.e_score_correction_bias", "exp_probs_b.bias"), ("self_attn.attention_sink_bias", "attn_sinks.weight")];

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("n_routed_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_bias");
        MixtureKeys.Require(config, "norm_topk_prob", MixtureKeys.Flag(config, "norm_topk_prob", true), "normalized weights");
        MixtureKeys.Require(config, "routed_scaling_factor", config.Number("routed_scaling_factor", 1) == 1, "a factor of 1");
        MixtureKeys.Require(config, "n_shared_experts", config.Number("n_shared_experts", 0) == 0, "mixtures without shared experts");
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), MixtureKeys.Inner(config, Facts));
        MixtureKeys.WriteGroups(this, config, metadata);
        metadata.Add("mimo2.attention.sliding_window", (uint)config.Int("sliding_window", Facts.SlidingWindow));
        metadata.Add(PatternKey, Slides(config));
        metadata.Add("mimo2.rope.freq_base_swa", (float)RopeScaling.Theta(config, Sliding, 10000));
        metadata.Add("mimo2.attention.value_scale", (float)ValueScale(config));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        var slides = LayerPattern.Read(file.Metadata, PatternKey, MixtureKeys.Int(this, file, "block_count"), usualPeriod: 1);
        var heads = Enumerable.Range(0, slides.Length).Select(i => (int)(file.GetTensor($"blk.{i}.attn_k.weight").Shape[0] / config["head_dim"]!.GetValue<int>())).ToList();
        var full = Array.IndexOf(slides, false);
        var count = full >= 0 ? heads[full] : heads[0] / 2;
        if (slides.Zip(heads).Any(pair => pair.Second != (pair.First ? 2 * count : count)))
        {
            throw file.Metadata.Error("mimo2.attention.head_count_kv", "layers with a window are expected to have twice the key/value heads of the others.");
        }

        MixtureKeys.ReadSigmoidMixture(this, file, config);
        _ = config.Remove("n_shared_experts");
        config["norm_topk_prob"] = true;
        config["num_key_value_heads"] = count;
        config["layer_types"] = new JsonArray([.. slides.Select(static s => (JsonNode)(s ? Sliding : Full))]);
        config["mlp_layer_types"] = MixtureKeys.LayerTypes(this, file);
        config["sliding_window"] = MixtureKeys.Int(this, file, "attention.sliding_window");
        config["v_head_dim"] = MixtureKeys.Int(this, file, "attention.value_length");
        config["attention_value_scale"] = Round(file.Metadata.Number("mimo2.attention.value_scale") ?? 1);
        var share = config["partial_rotary_factor"]!;
        var (scaling, theta) = (config["rope_scaling"] as JsonObject, config["rope_theta"]!);
        _ = (config.Remove("rope_scaling"), config.Remove("rope_theta"), config.Remove("partial_rotary_factor"));
        JsonObject Rotation(JsonObject rule, double theta)
        {
            (rule["rope_theta"], rule["partial_rotary_factor"]) = (theta, share.DeepClone());
            return rule;
        }

        config["rope_parameters"] = new JsonObject
        {
            [Full] = Rotation(scaling ?? new JsonObject { ["rope_type"] = "default" }, theta.GetValue<double>()),
            [Sliding] = Rotation(new JsonObject { ["rope_type"] = "default" }, Round(file.Metadata.Number("mimo2.rope.freq_base_swa") ?? 10000)),
        };
        return config;
    }

    /// <inheritdoc/>
    protected override double RopeTheta(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return RopeScaling.Theta(config, Full, 5e6);
    }

    /// <inheritdoc/>
    protected override int RotatedLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var share = RopeScaling.Of(config, Full)?.Number("partial_rotary_factor", RotatedShare) ?? RotatedShare;
        return (int)(HeadLength(config) * (config.Has("partial_rotary_factor") ? config.Number("partial_rotary_factor") : share));
    }

    /// <inheritdoc/>
    protected override object KeyValueHeadCount(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var count = (uint)KeyValueHeads(config);
        return Array.ConvertAll(Slides(config), slides => slides ? 2 * count : count);
    }

    /// <inheritdoc/>
    protected override int ValueLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("v_head_dim", 128);
    }

    private static double ValueScale(ConfigJson config) => config.IsNull("attention_value_scale") ? 1 : config.Number("attention_value_scale", 0.707);

    // The first layer and every sixth have none, unless layer_types says otherwise.
    private static bool[] Slides(ConfigJson config) => config.Texts("layer_types") is { } types
        ? [.. types.Select(static t => t == Sliding)]
        : [.. Enumerable.Range(0, config.Int("num_hidden_layers")).Select(static i => i != 0 && (i + 1) % 6 != 0)];
}
