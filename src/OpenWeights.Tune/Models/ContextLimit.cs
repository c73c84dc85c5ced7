using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models;

/// <summary>How long a text a model may be given.</summary>
/// <param name="Tokens">The longest text, in tokens.</param>
/// <param name="Reason">What says so, for messages.</param>
public sealed record ContextLimit(int Tokens, string Reason)
{
    /// <summary>The room of a model.</summary>
    /// <param name="config">The model's config.</param>
    /// <param name="wanted">What is said instead, as model.max_positions; null for nothing.</param>
    public static ContextLimit Of(DecoderConfig config, int? wanted = null)
    {
        ArgumentNullException.ThrowIfNull(config);
        return wanted is { } said ? new ContextLimit(said, "model.max_positions")
            : new ContextLimit(config.ContextLength, config.ContextLength == config.MaxPositions ? "max_position_embeddings in its config.json" : "max_position_embeddings in its config.json, stretched by its rope scaling");
    }

    // Linear and dynamic stretching and YaRN multiply the length that the frequencies were made for; the others' config says the whole length.
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
