namespace OpenWeights.Tune.Layers.Mixers;

/// <summary>Settings of a Mamba-2 mixer (Dao and Gu, 2024).</summary>
internal sealed record Mamba2Settings : MixerSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mamba";

    /// <summary>Hidden size: width of its input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of heads.</summary>
    public required int Heads { get; init; }

    /// <summary>Head dimension.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>Number of groups of heads that share B and C; it divides <see cref="Heads"/>.</summary>
    public required int Groups { get; init; }

    /// <summary>Size of the state of each feature of a head.</summary>
    public required Dimension StateSize { get; init; }

    /// <summary>Kernel size of the convolution.</summary>
    public required Dimension Kernel { get; init; }

    /// <summary>Whether the convolution has a bias.</summary>
    public bool ConvolutionBias { get; init; } = true;

    /// <summary>Whether the input projection has a bias.</summary>
    public bool InputBias { get; init; }

    /// <summary>Whether the output projection has a bias.</summary>
    public bool OutputBias { get; init; }

    /// <summary>Whether adapters may target the output projection, which PEFT refuses in some families.</summary>
    public bool AdaptsOutput { get; init; } = true;

    /// <summary>Limits of the time steps.</summary>
    public TimeStepLimits Limits { get; init; } = new(0, double.PositiveInfinity);

    /// <summary>Norm of the output; null if it is only gated.</summary>
    public GatedNormSettings? Norm { get; init; }

    /// <summary>Factor of the input.</summary>
    public double InputMultiplier { get; init; } = 1;

    /// <summary>Factors of the input projection's outputs.</summary>
    public Mamba2Multipliers Multipliers { get; init; } = new(1, 1, 1, 1, 1);

    /// <summary>Width of all heads together.</summary>
    internal int Inner => Heads * HeadDimension;

    internal override MixerNeeds Needs => new() { Restarts = true };

    internal override TokenMixer Make(IWeightSource weights, string name) => new Mamba2Mixer(this, weights, name);
}

/// <summary>Limits that time steps are clamped to.</summary>
/// <param name="Min">The smallest time step.</param>
/// <param name="Max">The largest.</param>
internal sealed record TimeStepLimits(double Min, double Max);

/// <summary>An RMS norm beside a gate: y silu(z).</summary>
/// <param name="Epsilon">Added to the mean square.</param>
/// <param name="Groups">Number of groups of neighbouring features, each normalised separately.</param>
/// <param name="GateFirst">Whether the gate is multiplied before the norm, and not after it.</param>
internal sealed record GatedNormSettings(double Epsilon, int Groups, bool GateFirst);

/// <summary>Factors of the outputs of a Mamba-2 mixer's input projection (Falcon-H1).</summary>
/// <param name="Gate">Factor of the gate.</param>
/// <param name="X">Factor of x.</param>
/// <param name="B">Factor of B.</param>
/// <param name="C">Factor of C.</param>
/// <param name="TimeStep">Factor of the time steps.</param>
internal sealed record Mamba2Multipliers(double Gate, double X, double B, double C, double TimeStep)
{
    /// <summary>Whether all are one.</summary>
    internal bool AreOne => this == new Mamba2Multipliers(1, 1, 1, 1, 1);
}
