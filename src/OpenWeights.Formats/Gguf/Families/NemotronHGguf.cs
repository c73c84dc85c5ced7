using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// Nemotron-H and Nemotron 3: each layer is a Mamba 2 mixer, attention without positions, a feed-forward, or a mixture of experts. llama.cpp
/// does not keep time steps above a thousandth, below which a state changes by less than that anyway.
/// </summary>
internal class NemotronHGguf : GgufFamily
{
    private const string Mamba = "linear_attention";
    private const string Attention = "full_attention";
    private const string Block = "mlp";
    private const string Mixture = "moe";
    private const double LargestStepMinimum = 0.001;

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.NemotronH;

    /// <inheritdoc/>
    public override string Architecture => "nemotron_h";

    /// <inheritdoc/>
    public override string FinalNorm => "backbone.norm_f";

    /// <inheritdoc/>
    protected override string Embedding => "backbone.embeddings";

    /// <inheritdoc/>
    protected override string LayerPrefix => "backbone.layers.";

    /// <inheritdoc/>
    public override IReadOnlyList<string> ModulesWithoutLora => ["ffn_latent_down", "ffn_latent_up"];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        ("norm", "attn_norm"),
        ("mixer.q_proj", "attn_q"),
        ("mixer.k_proj", "attn_k"),
        ("mixer.v_proj", "attn_v"),
        ("mixer.o_proj", "attn_output"),
        ("mixer.up_proj", "ffn_up"),
        ("mixer.down_proj", "ffn_down"),
        ("mixer.gate", "ffn_gate_inp"),
        ("mixer.experts.*.up_proj", "ffn_up_exps"),
        ("mixer.experts.*.down_proj", "ffn_down_exps"),
        ("mixer.shared_experts.up_proj", "ffn_up_shexp"),
        ("mixer.shared_experts.down_proj", "ffn_down_shexp"),
        ("mixer.fc1_latent_proj", "ffn_latent_down"),
        ("mixer.fc2_latent_proj", "ffn_latent_up"),
        .. MambaSection.Modules("mixer"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [.. MambaSection.Tensors("mixer"), ("mixer.gate.e_score_correction_bias", "exp_probs_b.bias")];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return MambaSection.FormOf(GgufNames.Part(gguf), config.Int(Named(config, "n_groups", "mamba_n_groups"), 8)) ?? base.FormOf(gguf, config);
    }

    /// <inheritdoc/>
    public override int Layers(ConfigJson config) => Types(config).Count;

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Types(config).Contains(Mixture) ? config.Int("n_routed_experts", Facts.Experts!.Count) : 0;
    }

    /// <inheritdoc/>
    public override IReadOnlyList<(string Name, float[] Divisors)> RotaryTensors(ConfigJson config) => [];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        var types = Types(config);
        if (types.Contains(Mixture) && types.Contains(Block))
        {
            throw config.Error("layers_block_type", "llama.cpp has no feed-forward without experts beside mixtures of experts for this family.");
        }

        MambaSection.RefuseUnusual(config, Named(config, "use_conv_bias", "mamba_conv_bias"), "use_bias");
        var least = Named(config, "time_step_min", "mamba_dt_min");
        if (config.Number(least, LargestStepMinimum) > LargestStepMinimum)
        {
            throw config.Error(least, FormattableString.Invariant($"llama.cpp does not limit time steps, so the result would differ from the model; up to {LargestStepMinimum} it does not."));
        }

        var heads = config.Int("mamba_num_heads", 128);
        MambaSection.Write(
            new MambaSizes(
                config.Int(Named(config, "conv_kernel", "mamba_d_conv"), 4), heads * config.Int("mamba_head_dim", 64), config.Int("ssm_state_size", 128), heads,
                config.Int(Named(config, "n_groups", "mamba_n_groups"), 8)),
            metadata, Architecture);
        metadata.Add($"{Architecture}.vocab_size", (uint)config.Int("vocab_size", 131072));
        if (types.Contains(Mixture))
        {
            WriteExperts(config, metadata);
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var (config, sizes, metadata) = (base.ReadSettings(file), MambaSection.Read(file, Architecture), file.Metadata);
        foreach (var other in new[] { "hidden_act", "num_hidden_layers", "rms_norm_eps", "rope_theta", "rope_scaling" })
        {
            _ = config.Remove(other);
        }

        config["layer_norm_epsilon"] = Round(metadata.Number($"{Architecture}.attention.layer_norm_rms_epsilon") ?? Facts.NormEpsilon);
        config["mlp_hidden_act"] = "relu2";
        config["mlp_bias"] = file.Tensors.Any(static t => t.Name.EndsWith(".ffn_up.bias", StringComparison.Ordinal));
        config["conv_kernel"] = sizes.Kernel;
        config["ssm_state_size"] = sizes.State;
        config["mamba_num_heads"] = sizes.Steps;
        config["mamba_head_dim"] = sizes.Inner / sizes.Steps;
        config["n_groups"] = sizes.Groups;
        config["use_bias"] = false;
        config["use_conv_bias"] = true;
        config["layers_block_type"] = new JsonArray([.. ReadTypes(file).Select(static t => (JsonNode)t)]);
        if (metadata.Int($"{Architecture}.expert_count") is > 0)
        {
            ReadExperts(metadata, config);
        }

        return config;
    }

    /// <inheritdoc/>
    protected override double NormEpsilon(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Number("layer_norm_epsilon", Facts.NormEpsilon);
    }

    /// <inheritdoc/>
    protected override object KeyValueHeadCount(ConfigJson config)
    {
        var count = (uint)KeyValueHeads(config);
        return Types(config).Select(type => type == Attention ? count : 0).ToArray();
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Types(config).Select(type => type switch
        {
            Block => (uint)config.Int("intermediate_size", 21504),
            Mixture => (uint)config.Int("moe_intermediate_size", Facts.Experts!.Inner),
            _ => 0u,
        }).ToArray();
    }

    private void WriteExperts(ConfigJson config, GgufMetadata metadata)
    {
        RefuseBiases(config, "mlp_bias");
        void Add(string key, object value) => metadata.Add($"{Architecture}.{key}", value);
        Add("expert_count", (uint)Experts(config));
        Add("expert_used_count", (uint)config.Int("num_experts_per_tok", Facts.Experts!.PerToken));
        Add("expert_feed_forward_length", (uint)config.Int("moe_intermediate_size", Facts.Experts!.Inner));
        Add("expert_shared_feed_forward_length", (uint)config.Int("moe_shared_expert_intermediate_size", 7688));
        Add("expert_shared_count", 1u);
        Add("expert_weights_norm", config.Has("norm_topk_prob") ? config.Flag("norm_topk_prob") : Facts.Experts!.Normalizes);
        Add("expert_weights_scale", (float)config.Number("routed_scaling_factor", Facts.Experts!.Scale));
        if (config.Int("n_group", Facts.Experts!.Groups) is > 1 and var groups)
        {
            Add("expert_group_count", (uint)groups);
            Add("expert_group_used_count", (uint)config.Int("topk_group", Facts.Experts!.ChosenGroups));
        }

        if (config.Has("moe_latent_size"))
        {
            Add("moe_latent_size", (uint)config.Int("moe_latent_size"));
        }
    }

    private void ReadExperts(GgufMetadata metadata, JsonObject config)
    {
        int Int(string key) => metadata.Int($"{Architecture}.{key}") ?? throw metadata.Error($"{Architecture}.{key}", "this key is missing.");
        config["n_routed_experts"] = Int("expert_count");
        config["num_experts_per_tok"] = Int("expert_used_count");
        config["moe_intermediate_size"] = Int("expert_feed_forward_length");
        config["moe_shared_expert_intermediate_size"] = Int("expert_shared_feed_forward_length");
        config["norm_topk_prob"] = metadata.Flag($"{Architecture}.expert_weights_norm") ?? false;
        config["routed_scaling_factor"] = Round(metadata.Number($"{Architecture}.expert_weights_scale") ?? 1);
        config["n_group"] = metadata.Int($"{Architecture}.expert_group_count") ?? 1;
        config["topk_group"] = metadata.Int($"{Architecture}.expert_group_used_count") ?? 1;
        if (metadata.Int($"{Architecture}.moe_latent_size") is > 0 and var latent)
        {
            config["moe_latent_size"] = latent;
        }
    }

    private IEnumerable<string> ReadTypes(GgufFile file)
    {
        IReadOnlyList<int> List(string key) => file.Metadata.Ints($"{Architecture}.{key}") ?? throw file.Metadata.Error($"{Architecture}.{key}", "this key is missing.");
        var hasExperts = file.Metadata.Int($"{Architecture}.expert_count") is > 0;
        return List("attention.head_count_kv").Zip(List("feed_forward_length"), (heads, width) => heads > 0 ? Attention : width == 0 ? Mamba : hasExperts ? Mixture : Block);
    }

    private static IReadOnlyList<string> Types(ConfigJson config)
    {
        var given = config.Texts("layers_block_type") ?? config.Texts("layer_types") ?? config.Text("hybrid_override_pattern")?.Select(static c => c.ToString()) ?? [Mamba, Mixture, Attention, Block];
        return
        [
            .. given.Select(static type => type switch
            {
                "M" or "mamba" => Mamba,
                "*" or "attention" => Attention,
                "-" => Block,
                "E" => Mixture,
                _ => type,
            }),
        ];
    }

    // The older name counts where it is there.
    private static string Named(ConfigJson config, string name, string older) => config.Has(older) ? older : name;
}

/// <summary>Nemotron 3 under the name that llama.cpp's converter gives models with experts; it computes them as the others.</summary>
internal sealed class NemotronHMoeGguf : NemotronHGguf
{
    /// <inheritdoc/>
    public override string Architecture => "nemotron_h_moe";
}
