using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models;

/// <summary>Context length of a model.</summary>
/// <param name="Tokens">Maximum length of a text, in tokens.</param>
/// <param name="Reason">The setting that limits it, for messages.</param>
internal sealed record ContextLimit(int Tokens, string Reason)
{
    /// <summary>The context length of a model.</summary>
    /// <param name="config">Config of the model.</param>
    /// <param name="wanted">A length that overrides it, such as model.max_positions; null for none.</param>
    public static ContextLimit Of(DecoderConfig config, int? wanted = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        return wanted is { } said ? new ContextLimit(said, "model.max_positions")
            : new ContextLimit(config.ContextLength, config.ContextLength == config.MaxPositions ? "max_position_embeddings in its config.json" : "max_position_embeddings in its config.json, extended by its RoPE scaling");
    }

    // Linear and dynamic scaling and YaRN multiply the original length; for the others the config gives the extended length.
    internal static int Length(int maxPositions, RopeConfig rope)
    {
        var length = rope.Kind switch
        {
            RopeKind.Linear or RopeKind.Dynamic => maxPositions * rope.Factor,
            RopeKind.Yarn => rope.OriginalMaxPositions * rope.Factor,
            _ => maxPositions,
        };
        return (int)Math.Clamp(Math.Round(length), maxPositions, int.MaxValue);
    }
}
