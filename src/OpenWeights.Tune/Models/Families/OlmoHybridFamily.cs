using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// OLMo Hybrid (OLMo Team, 2026): layers of OLMo 3, with norms of the outputs of their parts, between layers of Gated DeltaNet, with norms of the
/// inputs.
/// </summary>
internal sealed class OlmoHybridFamily : IModelFamily
{
    // transformers gives this norm no epsilon of the config.
    private const double GateNormEpsilon = 1e-5;

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.OlmoHybrid;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var common = config.Common(Facts);
        var decoder = common with { Norm = new RmsNormSettings(common.NormEpsilon, ScalesBeforeRounding: true), QueryKeyNorm = QueryKeyNorm.AllHeads };
        var keyWidth = config.OptionalInt("linear_key_head_dim") ?? (int)(0.75 * decoder.HiddenSize / (config.OptionalInt("linear_num_key_heads") ?? decoder.HeadCount));
        var linear = config.DeltaNet(decoder, DeltaProjections.Separate, new DeltaSizes(decoder.HeadCount, decoder.HeadCount, keyWidth, 2 * keyWidth)) with
        {
            AllowsNegativeEigenvalues = config.Flag("linear_allow_neg_eigval", true),
            NormEpsilon = GateNormEpsilon,
        };

        // How a new model's decays were drawn.
        foreach (var setting in new[] { "linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max", "linear_dt_init_floor" })
        {
            _ = config.Has(setting);
        }

        var last = decoder.LayerCount - 1;
        var types = LayerTypes.Read(config, decoder.LayerCount, i => i % 4 == 3 || (i == last && last < 3) ? LayerTypes.Full : LayerTypes.Linear, LayerTypes.Full, LayerTypes.Linear);
        var hybrid = decoder.WithLinearLayers(types, linear, decoder.Attention with { Rope = Rotates(config) ? decoder.Rope : null });
        return hybrid with { Layers = [.. hybrid.Layers.Select((layer, i) => layer with { Norms = types[i] == LayerTypes.Full ? NormPlacement.After : NormPlacement.Before })] };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var width = shape.HiddenSize / shape.Heads;
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("linear_allow_neg_eigval", true), ("linear_conv_kernel_dim", 4), ("linear_key_head_dim", Math.Max(1, width * 3 / 4)),
            ("linear_num_key_heads", shape.Heads), ("linear_num_value_heads", shape.Heads), ("linear_value_head_dim", 2 * Math.Max(1, width * 3 / 4)), ("rms_norm_eps", 1e-6));
    }

    // Published models have no rotary embedding, which their config says by having no base of it.
    private static bool Rotates(ConfigReader config) => config.Has("rope_theta") || config.Object("rope_parameters")?["rope_theta"] is not null;
}
