using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// Falcon-H1: in each layer attention and Mamba 2 side by side. llama.cpp knows none of the factors of its config, which the file has in its
/// weights.
/// </summary>
internal sealed class FalconH1Gguf : GgufFamily
{
    private static readonly string[] s_factors =
    [
        "embedding_multiplier", "lm_head_multiplier", "attention_in_multiplier", "attention_out_multiplier", "key_multiplier", "ssm_in_multiplier", "ssm_out_multiplier",
    ];

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.FalconH1;

    /// <inheritdoc/>
    public override string Architecture => "falcon-h1";

    /// <summary>The head has another factor than the embedding.</summary>
    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override string FinalNorm => "model.final_layernorm";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules).Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("feed_forward.gate_proj", "ffn_gate"),
        ("feed_forward.up_proj", "ffn_up"),
        ("feed_forward.down_proj", "ffn_down"),
        .. MambaSection.Modules("mamba"),
    ];

    /// <summary>llama.cpp expects this norm's name without the end that others have.</summary>
    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [.. MambaSection.Tensors("mamba"), ("pre_ff_layernorm.weight", "ffn_norm")];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        ArgumentNullException.ThrowIfNull(config);
        double Factor(string setting) => config.Number(setting, 1);
        var part = GgufNames.Part(gguf);
        var blocks = config.Numbers("mlp_multipliers") ?? [1, 1];

        double? factor = part switch
        {
            "token_embd.weight" => Factor("embedding_multiplier"),
            "output.weight" => Factor("lm_head_multiplier"),
            "attn_q.weight" or "attn_v.weight" => Factor("attention_in_multiplier"),
            "attn_k.weight" => Factor("attention_in_multiplier") * Factor("key_multiplier"),
            "attn_output.weight" => Factor("attention_out_multiplier"),
            "ssm_out.weight" => Factor("ssm_out_multiplier"),
            "ffn_gate.weight" or "ffn_gate.bias" => blocks[0],
            "ffn_down.weight" or "ffn_down.bias" => blocks[1],
            _ => null,
        };
        return factor is { } one ? (one == 1 ? GgufForm.Same : new GgufForm { Factors = [(float)one] })
            : part == "ssm_in.weight" ? InputForm(config)
            : MambaSection.FormOf(part, config.Int("mamba_n_groups", 1)) ?? base.FormOf(gguf, config);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        MambaSection.RefuseUnusual(config, "mamba_conv_bias", "mamba_proj_bias");
        MambaSection.RefuseLimits(config);
        RefuseBiases(config, "attention_bias", "projectors_bias");
        if (config.Flag("mamba_rms_norm") && !(config.Has("mamba_norm_before_gate") && !config.Flag("mamba_norm_before_gate")))
        {
            throw config.Error("mamba_norm_before_gate", "llama.cpp has the mixer's norm behind the gate, so the result would differ from the model.");
        }

        MambaSection.Write(Sizes(config), metadata, Architecture);
        metadata.Add("falcon-h1.vocab_size", (uint)config.Int("vocab_size"));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        MambaSection.ReadSizes(file, Architecture, config);
        config["mamba_d_ssm"] = MambaSection.Read(file, Architecture).Inner;
        config["mamba_rms_norm"] = file.Contains("blk.0.ssm_norm.weight");
        config["mamba_norm_before_gate"] = false;
        config["mlp_bias"] = file.Contains("blk.0.ffn_up.bias");
        foreach (var factor in s_factors)
        {
            config[factor] = 1.0;
        }

        return config;
    }

    private static MambaSizes Sizes(ConfigJson config) => MambaSection.Sizes(config, "mamba_d_ssm");

    // Gates, inputs, B, C and time steps each have a factor.
    private static GgufForm InputForm(ConfigJson config)
    {
        var (sizes, factors, all) = (Sizes(config), config.Numbers("ssm_multipliers") ?? [1, 1, 1, 1, 1], config.Number("ssm_in_multiplier", 1));
        var states = (long)sizes.Groups!.Value * sizes.State;
        long[] ends = [sizes.Inner, 2L * sizes.Inner, (2L * sizes.Inner) + states, 2 * (sizes.Inner + states), (2 * (sizes.Inner + states)) + sizes.Steps];
        return new GgufForm { Factors = new ComputedList<float>(ends[^1], row => (float)(factors[Array.FindIndex(ends, end => row < end)] * all)) };
    }
}
