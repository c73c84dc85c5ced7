using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Granite 3 with experts of which one reads every token (IBM, 2025).</summary>
internal sealed class GraniteMoeSharedFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.GraniteMoeShared;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Common(Facts).WithGraniteFactors(config).WithGraniteMixture(config, Facts.Experts!);
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return GraniteMoeFamily.NewConfig(this, shape, ("shared_intermediate_size", shape.IntermediateSize));
    }
}
