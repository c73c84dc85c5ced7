namespace OpenWeights.Tune.Models.Rope;

/// <summary>How rotary frequencies are stretched for contexts longer than the ones a model was first trained on.</summary>
public enum RopeKind
{
    /// <summary>Not at all (Su et al., RoFormer, 2021).</summary>
    Default,

    /// <summary>Positions divided by a factor (position interpolation, Chen et al., 2023).</summary>
    Linear,

    /// <summary>The base grows with the sequence once it passes the trained context (dynamic NTK).</summary>
    Dynamic,

    /// <summary>Llama 3.1's: long wavelengths divided by a factor, short ones kept, those between blended.</summary>
    Llama3,

    /// <summary>YaRN (Peng et al., 2023): blended by dimension, and attention scaled.</summary>
    Yarn,

    /// <summary>LongRoPE (Ding et al., 2024): each pair of dimensions has its own two factors, for texts within and beyond the trained context.</summary>
    LongRope,
}
