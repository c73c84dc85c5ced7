using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Kimi Linear: linear attention with a decay of each channel, latent attention without positions, and the mixtures of experts of DeepSeek-V3.</summary>
internal sealed class KimiLinearGguf : LatentGguf
{
    private const string Full = "full_attention";
    private const string Linear = "linear_attention";
    private const string Module = "block_sparse_moe";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.KimiLinear;

    /// <inheritdoc/>
    public override string Architecture => "kimi-linear";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<string> ModulesWithoutLora =>
        [.. base.ModulesWithoutLora, "attn_k", "attn_v", "attn_output", "ssm_f_a", "ssm_f_b", "ssm_beta", "ssm_g_a", "ssm_g_b", "output"];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.q_conv1d", "ssm_conv1d_q"),
        ("self_attn.k_conv1d", "ssm_conv1d_k"),
        ("self_attn.v_conv1d", "ssm_conv1d_v"),
        ("self_attn.f_a_proj", "ssm_f_a"),
        ("self_attn.f_b_proj", "ssm_f_b"),
        ("self_attn.b_proj", "ssm_beta"),
        ("self_attn.g_a_proj", "ssm_g_a"),
        ("self_attn.g_b_proj", "ssm_g_b"),
        ("self_attn.o_norm", "ssm_norm"),
        ($"{Module}.gate_proj", "ffn_gate"),
        ($"{Module}.up_proj", "ffn_up"),
        ($"{Module}.down_proj", "ffn_down"),
        ($"{Module}.gate", "ffn_gate_inp"),
        .. MixtureKeys.MixtralExperts,
        .. MixtureKeys.Shared($"{Module}.shared_experts"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors =>
        [("self_attn.A_log", "ssm_a"), ("self_attn.dt_bias", "ssm_dt.bias"), ($"{Module}.gate.e_score_correction_bias", "exp_probs_b.bias")];

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSplit> Splits => [new LatentSplit("self_attn.kv_b_proj.weight", "attn_k_b.weight", "attn_v_b.weight")];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config) => GgufNames.Part(gguf) == "ssm_a"
        ? new GgufForm { IsNegativeExponential = true, Shape = new GgufShape(static shape => [shape.Aggregate(1L, static (product, size) => product * size), 1], static shape => [1, 1, shape[0], 1]) }
        : base.FormOf(gguf, config);

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("num_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<(string Name, float[] Divisors)> RotaryTensors(ConfigJson config) => [];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        var own = config.Object("linear_attn_config");
        var heads = own?.Int("num_heads", 32) ?? config.Int("linear_num_heads", 32);
        MixtureKeys.Require(config, "linear_num_heads", heads == config.Int("num_attention_heads"), "as many heads of linear attention as of attention");
        MixtureKeys.Require(config, "q_lora_rank", QueryRank(config) is null, "queries without a latent vector");
        MixtureKeys.Require(config, "moe_renormalize", MixtureKeys.Flag(config, "moe_renormalize", Facts.Experts!.Normalizes), "weights divided by their sum");
        metadata.Add($"{Architecture}.kda.head_dim", (uint)(own?.Int("head_dim", 128) ?? config.Int("linear_head_dim", 128)));
        metadata.Add($"{Architecture}.ssm.conv_kernel", (uint)(own?.Int("short_conv_kernel_size", 4) ?? config.Int("linear_conv_kernel_dim", 4)));
        metadata.Add($"{Architecture}.vocab_size", (uint)config.Int("vocab_size"));
        MixtureKeys.Write(this, config, metadata, config.Int("num_experts_per_token", Facts.Experts!.PerToken), MixtureKeys.Inner(config, Facts));
        MixtureKeys.WriteShared(this, config, metadata, "num_shared_experts");
        MixtureKeys.WriteDense(this, config, metadata, (int)config.Number("first_k_dense_replace", 1));
        MixtureKeys.WriteRouter(this, metadata, GatingFunction.Sigmoid, normalizes: true, config.Number("routed_scaling_factor", Facts.Experts.Scale));
        if (config.Int("num_expert_group", Facts.Experts.Groups) is > 1 and var groups && config.Int("topk_group", Facts.Experts.ChosenGroups) is var chosen && chosen < groups)
        {
            metadata.Add($"{Architecture}.expert_group_count", (uint)groups);
            metadata.Add($"{Architecture}.expert_group_used_count", (uint)chosen);
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var (config, metadata) = (base.ReadSettings(file), file.Metadata);
        MixtureKeys.ReadSigmoidMixture(this, file, config);
        foreach (var (name, other) in new[] { ("num_experts", "n_routed_experts"), ("num_experts_per_token", "num_experts_per_tok"), ("num_shared_experts", "n_shared_experts"), ("num_expert_group", "n_group"), ("model_max_length", "max_position_embeddings") })
        {
            config[name] = config[other]!.DeepClone();
            _ = config.Remove(other);
        }

        foreach (var other in new[] { "norm_topk_prob", "rope_theta", "rope_scaling" })
        {
            _ = config.Remove(other);
        }

        config["moe_renormalize"] = true;
        config["linear_num_heads"] = config["num_attention_heads"]!.DeepClone();
        config["linear_head_dim"] = MixtureKeys.Int(this, file, "kda.head_dim");
        config["linear_conv_kernel_dim"] = MixtureKeys.Int(this, file, "ssm.conv_kernel");
        config["mlp_layer_types"] = MixtureKeys.LayerTypes(this, file);
        var counts = metadata.Ints($"{Architecture}.attention.head_count_kv") ?? throw metadata.Error($"{Architecture}.attention.head_count_kv", "this key is missing.");
        config["layer_types"] = new JsonArray([.. counts.Select(static count => (JsonNode)(count > 0 ? Full : Linear))]);
        return config;
    }

    /// <inheritdoc/>
    protected override int MaxPositions(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("model_max_length", Facts.MaxPositions);
    }

    /// <summary>Layers without key/value heads have linear attention; llama.cpp's cache has one head, of latent vectors.</summary>
    /// <inheritdoc/>
    protected override object KeyValueHeadCount(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var full = config.Object("linear_attn_config")?.Numbers("full_attn_layers");
        return config.Texts("layer_types") is { } types
            ? types.Select(static type => type == Full ? 1u : 0u).ToArray()
            : Enumerable.Range(1, Layers(config)).Select(layer => (full?.Contains(layer) ?? (layer % 4 == 0)) ? 1u : 0u).ToArray();
    }
}
