namespace OpenWeights.Tune.Models;

/// <summary>Whether queries and keys are normalised before they are rotated.</summary>
public enum QueryKeyNorm
{
    /// <summary>They are not.</summary>
    None,

    /// <summary>Each head by itself, with one weight for all heads (Qwen3, Gemma 3).</summary>
    PerHead,

    /// <summary>All heads of a token together (OLMo 2).</summary>
    AllHeads,
}
