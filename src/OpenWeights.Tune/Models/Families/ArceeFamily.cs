using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Arcee's foundation models (Arcee AI, 2025): Llama with a feed-forward without a gate, and relu2.</summary>
internal sealed class ArceeFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Arcee;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (config.Common(Facts) with { FeedForwardBias = config.Flag("mlp_bias") }).WithPlainFeedForward("up_proj", "down_proj");
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape) => CommonSettings.NewConfig(this, shape, ("attention_bias", false), ("mlp_bias", false));
}
