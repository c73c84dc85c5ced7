namespace OpenWeights.Tune.Models;

/// <summary>What a weight starts as in a model trained from scratch.</summary>
public enum InitialWeight
{
    /// <summary>Normal with the config's initializer_range.</summary>
    Normal,

    /// <summary>Ones: the scale of a norm.</summary>
    Ones,

    /// <summary>Zeros: a bias.</summary>
    Zeros,
}
