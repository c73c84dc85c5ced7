using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Falcon-H1 (TII, 2025): in each layer attention and Mamba-2 side by side, and a factor at every place.</summary>
internal sealed class FalconH1Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.FalconH1;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts) with
        {
            FeedForwardBias = config.Flag("mlp_bias"),
            NormPlacement = new NormPlacement("input_layernorm", null, "pre_ff_layernorm", null),
            Names = new DecoderNames { FinalNorm = "final_layernorm" },
            EmbeddingMultiplier = config.Number("embedding_multiplier", 1),
            LogitMultiplier = config.Number("lm_head_multiplier", 1),
        };

        // A factor of the keys is one of the scores.
        decoder = decoder with { ScoreMultiplier = decoder.AttentionScale * config.Number("key_multiplier", 1) };
        var mixer = new ParallelMixerSettings
        {
            Branches =
            [
                new MixerBranch(Mamba(config, decoder), OutputMultiplier: config.Number("ssm_out_multiplier", 1)),
                new MixerBranch(decoder.Attention with { Rope = decoder.Rope }, config.Number("attention_in_multiplier", 1), config.Number("attention_out_multiplier", 1)),
            ],
        };
        var factors = Factors(config, "mlp_multipliers", 2);
        var layer = new LayerConfig
        {
            Rope = decoder.Rope,
            Mixer = mixer,
            FeedForward = decoder.FeedForward with { ModuleName = "feed_forward", GateMultiplier = factors[0], OutputMultiplier = factors[1] },
        };
        return decoder with { Layers = [.. Enumerable.Repeat(layer, decoder.LayerCount)] };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(
            this, shape, [("attention_bias", false), ("mamba_d_ssm", 2 * shape.HiddenSize), ("mamba_rms_norm", false), ("mlp_bias", false), ("projectors_bias", false), .. MambaReader.New(shape)]);
    }

    private static Mamba2Settings Mamba(ConfigReader config, DecoderConfig decoder)
    {
        var mamba = config.Mamba2(decoder, "mamba_d_ssm");
        var factors = Factors(config, "ssm_multipliers", 5);
        var gateFirst = !config.Flag("mamba_norm_before_gate", true);
        return mamba with
        {
            OutputBias = config.Flag("projectors_bias"),
            AdaptsOutput = false,
            Norm = config.Flag("mamba_rms_norm") ? new GatedNormSettings(decoder.NormEpsilon, mamba.Groups, gateFirst) : null,
            InputMultiplier = config.Number("ssm_in_multiplier", 1),
            Multipliers = new Mamba2Multipliers(factors[0], factors[1], factors[2], factors[3], factors[4]),
        };
    }

    private static IReadOnlyList<double> Factors(ConfigReader config, string key, int count)
    {
        var factors = config.Numbers(key) ?? [.. Enumerable.Repeat(1.0, count)];
        config.Require(key, factors.Count == count, $"{count} numbers are expected.");
        return factors;
    }
}
