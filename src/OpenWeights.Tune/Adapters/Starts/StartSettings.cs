namespace OpenWeights.Tune.Adapters;

/// <summary>Settings of EVA, with PEFT's names (eva_config).</summary>
internal sealed record EvaSettings
{
    /// <summary>rho: a layer's rank is at most r times this; 1 gives every layer the same rank.</summary>
    public double Rho { get; init; } = 2;

    /// <summary>tau: cosine similarity of a component with that of the batch before, from which it counts as converged.</summary>
    public double Tau { get; init; } = 0.99;

    /// <summary>use_label_mask: whether only tokens with a label count.</summary>
    public bool UseLabelMask { get; init; } = true;

    /// <summary>whiten: whether components are divided by the square roots of their singular values.</summary>
    public bool Whiten { get; init; }

    /// <summary>adjust_scaling_factors: whether a layer's scaling factor stays the same when its rank changes.</summary>
    public bool AdjustScalingFactors { get; init; } = true;
}

/// <summary>Settings of CorDA, with PEFT's names (corda_config).</summary>
internal sealed record CordaSettings
{
    /// <summary>corda_method: true for kpm, the smallest singular values, which preserves knowledge; false for ipm, the largest.</summary>
    public bool PreservesKnowledge { get; init; }
}

/// <summary>Settings of LoftQ, with PEFT's names (loftq_config).</summary>
internal sealed record LoftqSettings
{
    /// <summary>loftq_bits: 4 (NF4) or 8 (int8).</summary>
    public int Bits { get; init; } = 4;

    /// <summary>loftq_iter: alternations of quantizing and fitting.</summary>
    public int Iterations { get; init; } = 1;
}

/// <summary>Settings of LoRA-GA, with PEFT's names (lora_ga_config).</summary>
internal sealed record LoraGaSettings
{
    /// <summary>direction: which of the gradient's first 2 r singular vectors go to A and to B: ArBr, A2rBr, ArB2r or random.</summary>
    public string Direction { get; init; } = "ArB2r";

    /// <summary>scale: stable, weight_svd, gd_scale or unit.</summary>
    public string Scale { get; init; } = "stable";

    /// <summary>stable_gamma: divisor of scale stable.</summary>
    public double StableGamma { get; init; } = 16;
}
