using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Jamba: layers of Mamba, some of attention without positions, and a mixture of experts in some.</summary>
internal sealed class JambaGguf : HybridGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Jamba;

    /// <inheritdoc/>
    public override string Architecture => "jamba";

    /// <inheritdoc/>
    public override string FinalNorm => "model.final_layernorm";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules).Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("pre_ff_layernorm", "ffn_norm"),
        ("feed_forward.gate_proj", "ffn_gate"),
        ("feed_forward.up_proj", "ffn_up"),
        ("feed_forward.down_proj", "ffn_down"),
        ("feed_forward.router", "ffn_gate_inp"),
        ("feed_forward.experts.*.gate_proj", "ffn_gate_exps"),
        ("feed_forward.experts.*.up_proj", "ffn_up_exps"),
        ("feed_forward.experts.*.down_proj", "ffn_down_exps"),
        .. MambaSection.Modules("mamba").Where(static m => m.HuggingFace != "mamba.norm"),
        ("mamba.x_proj", "ssm_x"),
        ("mamba.dt_proj", "ssm_dt"),
        ("mamba.dt_layernorm", "ssm_dt_norm"),
        ("mamba.b_layernorm", "ssm_b_norm"),
        ("mamba.c_layernorm", "ssm_c_norm"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mamba.A_log", "ssm_a"), ("mamba.D", "ssm_d")];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config) => GgufNames.Part(gguf) switch
    {
        "ssm_a" => new GgufForm { IsNegativeExponential = true },
        "ssm_conv1d.weight" => new GgufForm { Shape = GgufShape.Convolution },
        _ => base.FormOf(gguf, config),
    };

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
        RequireUsualHeads(config);
        MambaSection.RefuseUnusual(config, "mamba_conv_bias", "mamba_proj_bias");
        var hidden = config.Int("hidden_size");
        var rank = config.Text("mamba_dt_rank") is "auto" ? (hidden + 15) / 16 : config.Int("mamba_dt_rank", (hidden + 15) / 16);
        var sizes = new MambaSizes(config.Int("mamba_d_conv", 4), (int)(config.Number("mamba_expand", 2) * hidden), config.Int("mamba_d_state", 16), rank, null);
        MambaSection.RequireDouble(config, sizes);
        MambaSection.Write(sizes, metadata, Architecture);
        if (Experts(config) > 1)
        {
            metadata.Add("jamba.expert_count", (uint)Experts(config));
            metadata.Add("jamba.expert_used_count", (uint)config.Int("num_experts_per_tok", Facts.Experts!.PerToken));
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var (config, sizes) = (base.ReadSettings(file), MambaSection.Read(file, Architecture));
        foreach (var other in new[] { "attention_bias", "head_dim", "rope_theta", "rope_scaling" })
        {
            _ = config.Remove(other);
        }

        config["mamba_d_conv"] = sizes.Kernel;
        config["mamba_d_state"] = sizes.State;
        config["mamba_dt_rank"] = sizes.Steps;
        config["mamba_expand"] = sizes.Inner / config["hidden_size"]!.GetValue<int>();
        config["mamba_conv_bias"] = true;
        config["mamba_proj_bias"] = false;
        config["layers_block_type"] = new JsonArray([.. ReadAttends(file).Select(static attends => (JsonNode)(attends ? "attention" : "mamba"))]);
        ReadExperts(file, config);
        return config;
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<bool> Attends(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (period, offset) = (config.Int("attn_layer_period", 8), (int)config.Number("attn_layer_offset", 4));
        return Attends(config, config.Has("layers_block_type") ? "layers_block_type" : "layer_types", layer => layer % period == offset);
    }

    // Which layers have experts is in the tensors; the config states it by a period.
    private void ReadExperts(GgufFile file, JsonObject config)
    {
        var layers = config["num_hidden_layers"]!.GetValue<int>();
        int[] sparse = [.. Enumerable.Range(0, layers).Where(i => file.Contains($"blk.{i}.ffn_gate_inp.weight"))];
        config["num_experts"] = sparse.Length == 0 ? 1 : file.Metadata.Int("jamba.expert_count") ?? 1;
        config["num_experts_per_tok"] = file.Metadata.Int("jamba.expert_used_count") ?? Facts.Experts!.PerToken;
        if (sparse.Length == 0)
        {
            return;
        }

        var (offset, period) = (sparse[0], sparse.Length > 1 ? sparse[1] - sparse[0] : layers);
        if (!sparse.SequenceEqual(Enumerable.Range(0, layers).Where(i => i % period == offset)))
        {
            throw new InvalidDataException($"{file.Location}: the layers with experts do not come once a period, which a config of {Facts.ModelType} cannot state.");
        }

        config["expert_layer_offset"] = offset;
        config["expert_layer_period"] = period;
    }
}
