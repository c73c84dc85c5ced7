using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Gemma 1 (Gemma Team, 2024): GeGLU, norms with a scale of one plus their weight, scaled embeddings.</summary>
internal sealed class GemmaFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Gemma;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).AsGemma(config);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => GemmaSettings.NewConfig(this, shape);
}
