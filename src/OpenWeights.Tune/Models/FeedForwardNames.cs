namespace OpenWeights.Tune.Models;

/// <summary>What a checkpoint calls the layers of a feed-forward.</summary>
/// <param name="Gate">The layer whose output goes through the activation.</param>
/// <param name="Up">The layer that it is multiplied with.</param>
/// <param name="Down">The layer back to the residual stream.</param>
public sealed record FeedForwardNames(string Gate, string Up, string Down)
{
    /// <summary>The names of Llama and most others.</summary>
    public static FeedForwardNames Usual { get; } = new("gate_proj", "up_proj", "down_proj");
}
