using OpenWeights.Tune.Layers.FeedForward;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>Settings of a mixture of experts: a router sends each token to a few of many feed-forward blocks (Fedus et al., 2021; Jiang et al., 2024).</summary>
internal sealed record MixtureSettings : FeedForwardSettings
{
    /// <inheritdoc/>
    public override string ModuleName { get; init; } = "mlp";

    /// <summary>Number of experts per token.</summary>
    public required int ExpertsPerToken { get; init; }

    /// <summary>The router.</summary>
    public required RouterSettings Router { get; init; }

    /// <summary>The experts.</summary>
    public required ExpertSettings Experts { get; init; }

    /// <summary>Name of the experts within the mixture; it may be dotted.</summary>
    public string ExpertsName { get; init; } = "experts";

    /// <summary>Whether a router's weight multiplies the input of an expert, and not its output (Llama 4).</summary>
    public bool ScalesInput { get; init; }

    /// <summary>A block that processes every token, whose <see cref="FeedForwardSettings.ModuleName"/> is its name within the mixture; null for none.</summary>
    public FeedForwardSettings? Shared { get; init; }

    /// <summary>Name of a layer whose sigmoid multiplies the output of <see cref="Shared"/>; null for none.</summary>
    public string? SharedGate { get; init; }

    /// <summary>Projections to a narrower space, in which the experts compute, and back; null for none.</summary>
    public LatentProjections? Latent { get; init; }

    internal override int? RoutedExperts => ExpertsPerToken;

    internal override LayerPart Make(IWeightSource weights, string name) => new MixtureOfExperts(this, weights, name);
}

/// <summary>Projections between the residual stream and the space in which experts compute (Nemotron 3).</summary>
/// <param name="HiddenSize">Hidden size: width of the residual stream.</param>
/// <param name="Down">Name, within the mixture, of the projection that experts read.</param>
/// <param name="Up">Name of the projection of their weighted sum.</param>
/// <param name="HasBias">Whether they have a bias.</param>
internal sealed record LatentProjections(int HiddenSize, string Down, string Up, bool HasBias);

/// <summary>
/// Settings of a stack of experts, each a feed-forward block: down(act(gate(x)) · up(x)). Each matrix is one parameter for all experts,
/// with gate above up: gate_up_proj [experts, 2 x inner, hidden] and down_proj [experts, hidden, inner].
/// </summary>
internal sealed record ExpertSettings
{
    /// <summary>Number of experts.</summary>
    public required int Count { get; init; }

    /// <summary>The setting of config.json that determines <see cref="Count"/>.</summary>
    public required string CountSetting { get; init; }

    /// <summary>Hidden size: width of an expert's input and output.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Width of the hidden layer of an expert.</summary>
    public required Dimension Inner { get; init; }

    /// <summary>Activation function of the gate, or of the only projection.</summary>
    public required Activation Activation { get; init; }

    /// <summary>Whether there is a gate; if not, an expert is down(act(up(x))), and the first parameter is up_proj.</summary>
    public bool HasGate { get; init; } = true;

    /// <summary>The clamped activation of the gate in place of <see cref="Activation"/>; null for that.</summary>
    public ClampedGate? Clamp { get; init; }

    /// <summary>Whether the projections have a bias: gate_up_proj_bias and down_proj_bias.</summary>
    public bool HasBias { get; init; }

    /// <summary>Whether the parameters are stored as [experts, in, out].</summary>
    public bool IsTransposed { get; init; }

    /// <summary>Whether outputs of gate and up alternate, and do not follow each other.</summary>
    public bool IsInterleaved { get; init; }

    /// <summary>
    /// Whether a low-rank update of a parameter is meant as of [experts, out, in] although it is stored as [experts, in, out]: PEFT knows the order
    /// only of experts with an attribute is_transposed.
    /// </summary>
    public bool UpdatesAsStored { get; init; }

    /// <summary>Name of the first parameter.</summary>
    internal string FirstName => HasGate ? "gate_up_proj" : "up_proj";
}

/// <summary>(up + 1) · gate · sigmoid(alpha gate), with gate at most the limit and up within it (GPT-OSS).</summary>
/// <param name="Alpha">Factor within the sigmoid.</param>
/// <param name="Limit">The limit.</param>
internal sealed record ClampedGate(double Alpha, double Limit);
