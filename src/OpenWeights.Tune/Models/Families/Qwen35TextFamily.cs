using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Text models of Qwen 3.5 (Qwen Team, 2026): three layers of Gated DeltaNet for each of gated attention.</summary>
internal sealed class Qwen35TextFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Qwen35Text;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).AsQwenHybrid(config, DeltaProjections.ByUse);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, LinearAttentionReader.NewQwenHybrid(shape));
}
