using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>VaultGemma (Google, 2025): Gemma 2 without norms of outputs.</summary>
internal sealed class VaultGemmaFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.VaultGemma;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.Common(Facts).AsGemma(config).WithGemmaScores(config, Facts) with
        {
            NormPlacement = new NormPlacement("input_layernorm", null, "pre_feedforward_layernorm", null),
        };
        return decoder.WithWindows(config.OptionalInt("sliding_window", Facts.SlidingWindow), LayerTypes.Read(config, decoder.LayerCount, static i => i % 2 == 0));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return GemmaSettings.NewConfig(this, shape, ("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0), ("query_pre_attn_scalar", shape.HiddenSize / shape.Heads), ("sliding_window", 4096));
    }
}
