using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Command R (Cohere, 2024): attention and feed-forward in parallel, layer norms without bias, and interleaved rotary embedding.</summary>
public sealed class CohereFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Cohere;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).AsCohere(config, normalizesQueries: config.Flag("use_qk_norm"));
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("logit_scale", 0.0625), ("use_qk_norm", false));
}
