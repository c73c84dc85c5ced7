namespace OpenWeights.Tune.Models;

/// <summary>Where a layer normalises.</summary>
public enum NormPlacement
{
    /// <summary>What attention and the feed-forward read (Llama).</summary>
    Before,

    /// <summary>What they give, before it is added to the residual stream (OLMo 2).</summary>
    After,

    /// <summary>Both (Gemma 2 and 3).</summary>
    BeforeAndAfter,
}
