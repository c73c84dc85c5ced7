namespace OpenWeights.Tune.Configuration;

/// <summary>Settings of the start eva, with PEFT's names.</summary>
internal sealed record EvaSection
{
    /// <summary>Largest rank of a layer as a multiple of r.</summary>
    [Setting("A layer's rank is at most r times this; 1 gives every layer the same rank.", Min = 1)]
    public double Rho { get; init; } = 2;

    /// <summary>Similarity from which a component has settled.</summary>
    [Setting("Minimum cosine similarity of a component in two consecutive batches for it to count as converged.", Min = 0, Max = 1)]
    public double Tau { get; init; } = 0.99;

    /// <summary>Whether only tokens with a label count, use_label_mask.</summary>
    [Setting("Measure the layers' inputs at trained tokens only.")]
    public bool UseLabelMask { get; init; } = true;

    /// <summary>Whether components are divided by the roots of their singular values.</summary>
    [Setting("Divide components by the square roots of their singular values.")]
    public bool Whiten { get; init; }

    /// <summary>Whether scaling factors stay when ranks change, adjust_scaling_factors.</summary>
    [Setting("Keep each layer's scaling factor when its rank changes.")]
    public bool AdjustScalingFactors { get; init; } = true;
}

/// <summary>Settings of the start corda, with PEFT's names.</summary>
internal sealed record CordaSection
{
    /// <summary>Which singular values are adapted, corda_method.</summary>
    [Setting("ipm: adapt the largest singular values, to learn fast; kpm: the smallest, to preserve knowledge.", OneOf = ["ipm", "kpm"])]
    public string CordaMethod { get; init; } = "ipm";
}

/// <summary>Settings of the start loftq, with PEFT's names.</summary>
internal sealed record LoftqSection
{
    /// <summary>Bits of the quantization, loftq_bits.</summary>
    [Setting("Bits of the quantization: 4 (NF4) or 8 (int8).", Min = 4, Max = 8)]
    public int LoftqBits { get; init; } = 4;

    /// <summary>Alternations, loftq_iter.</summary>
    [Setting("Number of iterations: each quantizes the weight, and fits A and B to the quantization error. A base that is quantized already keeps its values.", Min = 1)]
    public int LoftqIter { get; init; } = 1;
}

/// <summary>Settings of the start lora_ga, with PEFT's names.</summary>
internal sealed record LoraGaSection
{
    /// <summary>Which singular vectors go to A and B.</summary>
    [Setting("Which of the gradient's first 2 r singular vectors go to A and to B.", OneOf = ["ArBr", "A2rBr", "ArB2r", "random"])]
    public string Direction { get; init; } = "ArB2r";

    /// <summary>Size of A and B.</summary>
    [Setting("Scaling of the initial A and B.", OneOf = ["stable", "weight_svd", "gd_scale", "unit"])]
    public string Scale { get; init; } = "stable";

    /// <summary>Divisor of the scale stable, stable_gamma.</summary>
    [Setting("Divisor of the scale stable.", Min = 0)]
    public double StableGamma { get; init; } = 16;
}

/// <summary>Settings of block-diagonal LoRA, with PEFT's names.</summary>
internal sealed record BlockDiagonalSection
{
    /// <summary>Modules whose A is block-diagonal, target_modules_bd_a.</summary>
    [Setting("Modules whose A is block-diagonal, by parts of their names: those that a server splits by rows, such as o_proj and down_proj.", Key = "target_modules_bd_a")]
    public IReadOnlyList<string> OfA { get; init; } = [];

    /// <summary>Modules whose B is block-diagonal, target_modules_bd_b.</summary>
    [Setting("Modules whose B is block-diagonal, by parts of their names: those that a server splits by columns, such as q_proj and up_proj.", Key = "target_modules_bd_b")]
    public IReadOnlyList<string> OfB { get; init; } = [];

    /// <summary>Number of blocks.</summary>
    [Setting("Number of blocks: that of the devices that a server splits the model over.", Min = 1)]
    public int Nblocks { get; init; } = 1;

    /// <summary>Whether every adapted module must be in one of the lists, match_strict.</summary>
    [Setting("Require every adapted module to be in one of the lists.")]
    public bool MatchStrict { get; init; } = true;
}

/// <summary>Settings of KaSA, with PEFT's names.</summary>
internal sealed record KasaSection
{
    /// <summary>Weight of the singular values' penalty.</summary>
    [Setting("Weight of the penalty of the squared singular values, for penalize.", Min = 0)]
    public double Beta { get; init; } = 1e-4;

    /// <summary>Weight of the orthogonality penalty.</summary>
    [Setting("Weight of the penalty of A and B that are not orthonormal, for penalize.", Min = 0)]
    public double Gamma { get; init; } = 1e-3;

    /// <summary>Whether training adds both penalties.</summary>
    [Setting("Add both penalties to the gradients, as the paper trains; transformers' Trainer leaves them out unless its loss adds PEFT's LoraModel._get_kasa_loss.")]
    public bool Penalize { get; init; }
}
