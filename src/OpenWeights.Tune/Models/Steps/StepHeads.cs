namespace OpenWeights.Tune.Models.Steps;

/// <summary>The heads of a layer.</summary>
/// <param name="Layer">The layer's number.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="KeyValueHeads">Key/value heads.</param>
/// <param name="Width">Width of a head.</param>
internal sealed record StepHeads(int Layer, nint Heads, nint KeyValueHeads, nint Width);
