namespace OpenWeights.Tune.Adapters;

/// <summary>Settings of block-diagonal LoRA, with PEFT's names (use_bdlora).</summary>
internal sealed record BlockDiagonalSettings
{
    /// <summary>target_modules_bd_a: modules whose A is block-diagonal, by parts of their names.</summary>
    public IReadOnlyList<string> OfA { get; init; } = [];

    /// <summary>target_modules_bd_b: modules whose B is block-diagonal, by parts of their names.</summary>
    public IReadOnlyList<string> OfB { get; init; } = [];

    /// <summary>nblocks: number of blocks.</summary>
    public int Blocks { get; init; } = 1;

    /// <summary>match_strict: whether every adapted module must be in one of the lists.</summary>
    public bool MatchStrict { get; init; } = true;

    /// <summary>The blocks of a module; null for none.</summary>
    /// <param name="module">Name of the module.</param>
    internal BlockDiagonal? Of(string module) => OfA.Any(module.Contains) ? new BlockDiagonal(IsA: true, Blocks) : OfB.Any(module.Contains) ? new BlockDiagonal(IsA: false, Blocks) : null;

    /// <summary>Why a module cannot be adapted; null if it can.</summary>
    /// <param name="module">Name of the module.</param>
    /// <param name="rank">Rank of its update.</param>
    /// <param name="layer">The module.</param>
    internal string? Problem(string module, int rank, Layers.LinearLayer layer)
    {
        var blocks = Of(module);
        return OfA.Any(module.Contains) && OfB.Any(module.Contains) ? $"{module} is in target_modules_bd_a and in target_modules_bd_b; keep it in one of them."
            : blocks is null && MatchStrict ? $"{module} is in neither target_modules_bd_a nor target_modules_bd_b; add it, or set match_strict to false."
            : blocks is { IsA: true } && (rank % Blocks != 0 || layer.InFeatures % Blocks != 0) ? $"A of {module} is [{rank}, {layer.InFeatures}], which nblocks ({Blocks}) does not divide."
            : blocks is { IsA: false } && (rank % Blocks != 0 || layer.OutFeatures % Blocks != 0) ? $"B of {module} is [{layer.OutFeatures}, {rank}], which nblocks ({Blocks}) does not divide."
            : null;
    }
}

/// <summary>Settings of KaSA (Wang et al., 2024), with PEFT's names (kasa_config).</summary>
internal sealed record KasaSettings
{
    /// <summary>beta: weight of the squared singular values in the loss.</summary>
    public double Beta { get; init; } = 1e-4;

    /// <summary>gamma: weight of the departure of A and B from orthonormality in the loss.</summary>
    public double Gamma { get; init; } = 1e-3;

    /// <summary>Whether training adds both penalties to the gradients; adapter_config.json does not say it.</summary>
    public bool Penalizes { get; init; }
}
