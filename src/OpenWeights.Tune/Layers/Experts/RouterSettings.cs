namespace OpenWeights.Tune.Layers.Experts;

/// <summary>How a router chooses experts for a token, and how it weights their outputs.</summary>
internal sealed record RouterSettings
{
    /// <summary>Name of the router's layer within the mixture; it may be dotted, such as router.gate.</summary>
    public string Name { get; init; } = "gate";

    /// <summary>Whether its layer has a bias.</summary>
    public bool HasBias { get; init; }

    /// <summary>Whether its layer counts among the linear layers, which all-linear adapts; in most families it does not.</summary>
    public bool IsLinear { get; init; }

    /// <summary>How logits become the weights of the chosen experts.</summary>
    public RouterScoring Scoring { get; init; }

    /// <summary>Whether logits are computed in float32, whatever the dtype of the model.</summary>
    public bool InFloat32 { get; init; }

    /// <summary>
    /// Name, within the mixture, of a buffer that is added to the scores only for the choice of experts, and never trained; null for none.
    /// </summary>
    public string? Correction { get; init; }

    /// <summary>Whether <see cref="Correction"/> is stored as [1, experts].</summary>
    public bool HasCorrectionRow { get; init; }

    /// <summary>Groups of experts, of which some are chosen first; null for none.</summary>
    public ExpertGroups? Groups { get; init; }

    /// <summary>Whether the weights of the chosen experts are divided by their sum.</summary>
    public bool Normalizes { get; init; }

    /// <summary>Added to that sum.</summary>
    public double SumEpsilon { get; init; }

    /// <summary>Minimum of that sum; 0 for none.</summary>
    public double LeastSum { get; init; }

    /// <summary>Factor of the weights.</summary>
    public double Scale { get; init; } = 1;

    /// <summary>Name, within the mixture, of a trained factor of each expert's weight, [experts]; null for none.</summary>
    public string? ExpertScale { get; init; }

    /// <summary>How the router reads the mixture's input before its norm; null where it reads what the experts read.</summary>
    public RouterInput? Input { get; init; }

    /// <summary>Distance, relative to the logits, up to which experts count as tied; for <see cref="RouterScoring.SparseMixer"/>.</summary>
    public double TieTolerance { get; init; }
}

/// <summary>How a router's logits become the weights of the chosen experts.</summary>
internal enum RouterScoring
{
    /// <summary>Softmax over all experts; the weights are those of the chosen ones (Fedus et al., 2021).</summary>
    Softmax,

    /// <summary>Softmax over the logits of the chosen experts.</summary>
    SoftmaxOfChosen,

    /// <summary>Sigmoid of each logit (DeepSeek-AI, 2024).</summary>
    Sigmoid,

    /// <summary>
    /// SparseMixer-v2 (Liu et al., 2024) as in evaluation: two experts, each weighted by the softmax over itself and those that are tied with it.
    /// </summary>
    SparseMixer,
}

/// <summary>Input of a router: the states of the residual stream, normalized without a weight, times a trained scale and 1 / sqrt(hidden size) (Gemma 4).</summary>
/// <param name="Norm">Settings of the norm.</param>
/// <param name="Scale">Name of the scale, [hidden], within the mixture.</param>
internal sealed record RouterInput(RmsNormSettings Norm, string Scale);

/// <summary>Groups of neighbouring experts: only experts of the best groups are chosen (DeepSeek-AI, 2024).</summary>
/// <param name="Count">Number of groups.</param>
/// <param name="Chosen">Number of groups chosen for a token.</param>
/// <param name="Scored">Number of experts whose scores, summed, are a group's score: 1 in DeepSeek-V2, 2 in V3.</param>
internal sealed record ExpertGroups(int Count, int Chosen, int Scored);
