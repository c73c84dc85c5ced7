using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Gemma 4's text models: heads of another size where attention is full, of which a part is rotated, and a mixture of experts beside the feed-forward block.</summary>
internal sealed class Gemma4Gguf : LateGemmaGguf
{
    private const string FrequenciesName = "rope_freqs.weight";

    // A divisor that leaves a pair unrotated.
    private const float Unrotated = 1e30f;

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Gemma4Text;

    /// <inheritdoc/>
    public override string Architecture => "gemma4";

    /// <summary>llama.cpp does not multiply an update of the experts' outputs by the factor of each expert.</summary>
    /// <inheritdoc/>
    public override IReadOnlyList<string> ModulesWithoutLora => [.. base.ModulesWithoutLora, "ffn_down_exps"];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules,
        ("router.proj", "ffn_gate_inp"),
        ("post_feedforward_layernorm_1", "post_ffw_norm_1"),
        ("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
        ("post_feedforward_layernorm_2", "post_ffw_norm_2"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors =>
    [
        ("layer_scalar", "layer_output_scale.weight"),
        ("router.scale", "ffn_gate_inp.scale"),
        ("router.per_expert_scale", "ffn_down_exps.scale"),
        ("experts.gate_up_proj", "ffn_gate_up_exps.weight"),
        ("experts.down_proj", "ffn_down_exps.weight"),
    ];

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Flag("enable_moe_block") ? config.Int("num_experts") : 0;
    }

    /// <inheritdoc/>
    public override IReadOnlyList<(string Name, float[] Divisors)> RotaryTensors(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var pairs = KeyLength(config) / 2;
        var turned = (int)(RotatedShare(config) * KeyLength(config)) / 2;
        return [(FrequenciesName, [.. Enumerable.Range(0, pairs).Select(pair => pair < turned ? 1f : Unrotated)])];
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        WriteLateSettings(config, metadata);
        void Add(string key, object value) => metadata.Add($"gemma4.{key}", value);
        RequireHeads(config);
        Add("attention.key_length_swa", (uint)HeadLength(config));
        Add("attention.value_length_swa", (uint)HeadLength(config));
        Add("rope.dimension_count", (uint)KeyLength(config));
        Add("rope.dimension_count_swa", (uint)HeadLength(config));

        // Without it llama.cpp caps at 30.
        Add("final_logit_softcapping", (float)(config.Has("final_logit_softcapping") ? config.Number("final_logit_softcapping") : 0));
        if (Experts(config) > 0)
        {
            Add("expert_count", (uint)Experts(config));
            Add("expert_used_count", (uint)config.Int("top_k_experts"));
            Add("expert_feed_forward_length", (uint)config.Int("moe_intermediate_size"));
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var (config, metadata) = (base.ReadSettings(file), file.Metadata);
        int Int(string key) => metadata.Int($"gemma4.{key}") ?? throw metadata.Error($"gemma4.{key}", "this key is missing.");
        var slides = metadata.List<bool>("gemma4.attention.sliding_window_pattern") ?? throw metadata.Error("gemma4.attention.sliding_window_pattern", "this key is missing.");
        ReadLateSettings(file, config, slides);
        var (shared, width) = (metadata.Int("gemma4.attention.shared_kv_layers") ?? 0, metadata.Int("gemma4.embedding_length_per_layer_input") ?? 0);
        config["hidden_size_per_layer_input"] = width;
        config["num_kv_shared_layers"] = shared;
        config["head_dim"] = Int("attention.key_length_swa");
        config["final_logit_softcapping"] = metadata.Number("gemma4.final_logit_softcapping") is { } cap and not 0 ? Round(cap) : null;
        config["per_layer_config"] = ReadHeads(file, slides, Int("attention.key_length"));
        config["rope_parameters"] = ReadRotations(file, config);
        config["attention_k_eq_v"] = slides.Take(slides.Count - shared).Select(static (s, i) => (s, i)).Any(l => !l.s && !file.Contains($"blk.{l.i}.attn_v.weight"));
        var widths = metadata.Ints("gemma4.feed_forward_length") ?? [];
        config["intermediate_size"] = widths[0];
        config["use_double_wide_mlp"] = widths.Distinct().Count() > 1;
        foreach (var other in new[] { "hidden_act", "rope_theta", "rope_scaling", "rope_local_base_freq" })
        {
            _ = config.Remove(other);
        }

        if (metadata.Int("gemma4.expert_count") is > 0 and var experts)
        {
            config["enable_moe_block"] = true;
            config["num_experts"] = experts;
            config["top_k_experts"] = Int("expert_used_count");
            config["moe_intermediate_size"] = Int("expert_feed_forward_length");
        }

        return config;
    }

    /// <inheritdoc/>
    protected override void WriteRotation(ConfigJson config, GgufMetadata metadata) => _ = RotatedShare(config);

    /// <inheritdoc/>
    protected override JsonObject? ReadRotation(GgufFile file) => null;

    /// <summary>The last layer has full attention, as in transformers, whatever the config says.</summary>
    /// <inheritdoc/>
    protected override IReadOnlyList<bool> Slides(ConfigJson config)
    {
        var slides = Slides(config, static layer => (layer + 1) % 6 != 0);
        slides[^1] = false;
        return slides;
    }

    /// <inheritdoc/>
    protected override int Shared(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (int)config.Number("num_kv_shared_layers", 0);
    }

    /// <inheritdoc/>
    protected override int KeyLength(ConfigJson config)
    {
        var full = Slides(config).ToList().IndexOf(false);
        return Heads(config, full, slides: false).Length;
    }

    /// <inheritdoc/>
    protected override int ValueLength(ConfigJson config) => KeyLength(config);

    /// <inheritdoc/>
    protected override object KeyValueHeadCount(ConfigJson config) => Slides(config).Select((slides, layer) => (uint)Heads(config, layer, slides).Count).ToArray();

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (layers, width) = (Layers(config), (uint)config.Int("intermediate_size"));
        return config.Flag("use_double_wide_mlp") ? Enumerable.Range(0, layers).Select(layer => layer < layers - Shared(config) ? width : 2 * width).ToArray() : width;
    }

    /// <inheritdoc/>
    protected override double RopeTheta(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Object("rope_parameters")?.Object("full_attention")?.Number("rope_theta", Facts.RopeTheta) ?? base.RopeTheta(config);
    }

    // The share of full attention's heads that is rotated.
    private static double RotatedShare(ConfigJson config)
    {
        if (config.Object("rope_parameters") is not { } rotations)
        {
            return 0.25;
        }

        var full = rotations.Object("full_attention");
        return full?.Text("rope_type") switch
        {
            "proportional" => full.Number("partial_rotary_factor", 1),
            null or "default" when (full?.Number("partial_rotary_factor", 1) ?? 1) == 1 => 1,
            var type => throw config.Error("rope_parameters", $"llama.cpp has no rotary scaling of type '{type ?? "default"}' with these settings for this family."),
        };
    }

    private (int Length, int Count) Heads(ConfigJson config, int layer, bool slides)
    {
        var (length, count) = (HeadLength(config), KeyValueHeads(config));
        if (config.Object("per_layer_config") is { } layers)
        {
            var own = layers.Object(layer.ToString(System.Globalization.CultureInfo.InvariantCulture));
            return (own?.Int("head_dim", length) ?? length, own?.Int("num_key_value_heads", count) ?? count);
        }

        return slides ? (length, count) : (config.Int("global_head_dim", 512), config.Flag("attention_k_eq_v") ? config.Int("num_global_key_value_heads", count) : count);
    }

    private void RequireHeads(ConfigJson config)
    {
        var (full, local) = (KeyLength(config), HeadLength(config));
        if (Slides(config).Where((slides, layer) => Heads(config, layer, slides).Length != (slides ? local : full)).Any())
        {
            throw config.Error("per_layer_config", "llama.cpp requires one head_dim in all layers with full attention, and head_dim in the others.");
        }
    }

    private static JsonObject ReadHeads(GgufFile file, IReadOnlyList<bool> slides, int full)
    {
        var counts = file.Metadata.Ints("gemma4.attention.head_count_kv") ?? throw file.Metadata.Error("gemma4.attention.head_count_kv", "this key is missing.");
        var layers = new JsonObject();
        for (var i = 0; i < slides.Count; i++)
        {
            var own = new JsonObject { ["num_key_value_heads"] = counts[counts.Count == 1 ? 0 : i] };
            if (!slides[i])
            {
                own["head_dim"] = full;
            }

            layers[i.ToString(System.Globalization.CultureInfo.InvariantCulture)] = own;
        }

        return layers;
    }

    private static JsonObject ReadRotations(GgufFile file, JsonObject config)
    {
        var tensor = file.GetTensor(FrequenciesName);
        var divisors = new float[tensor.ElementCount];
        file.ReadRows(tensor, 0, divisors);
        var turned = divisors.Count(static d => d == 1);
        return divisors.All(static d => d is 1 or >= Unrotated / 10)
            ? new JsonObject
            {
                ["full_attention"] = new JsonObject { ["rope_type"] = "proportional", ["partial_rotary_factor"] = (double)turned / divisors.Length, ["rope_theta"] = config["rope_theta"]!.DeepClone() },
                ["sliding_attention"] = new JsonObject { ["rope_type"] = "default", ["rope_theta"] = config["rope_local_base_freq"]!.DeepClone() },
            }
            : throw new InvalidDataException($"{file.Location}: the rotary divisors in {FrequenciesName} are not those of a share of each head, and cannot be read.");
    }
}
