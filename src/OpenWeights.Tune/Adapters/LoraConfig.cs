namespace OpenWeights.Tune.Adapters;

/// <summary>The settings of a LoRA adapter, under PEFT's names.</summary>
public sealed record LoraConfig
{
    /// <summary>The rank r of the update.</summary>
    public int Rank { get; init; } = 8;

    /// <summary>lora_alpha: the update counts alpha / r (alpha / sqrt r for rsLoRA).</summary>
    public double Alpha { get; init; } = 8;

    /// <summary>lora_dropout: the share of the adapter's inputs that training leaves out at random.</summary>
    public double Dropout { get; init; }

    /// <summary>Which layers are adapted.</summary>
    public TargetModules Targets { get; init; } = TargetModules.AllLinear;

    /// <summary>Which of them are left out again; null for none.</summary>
    public TargetModules? Excluded { get; init; }

    /// <summary>use_rslora: whether the update counts alpha / sqrt r (Kalajdzievski, 2023).</summary>
    public bool UseRslora { get; init; }

    /// <summary>rank_pattern: ranks of single layers, by names or patterns.</summary>
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>alpha_pattern: alphas of single layers, by names or patterns.</summary>
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    /// <summary>The rank of a layer.</summary>
    public int RankOf(string module) => TargetModules.FirstMatch(RankPattern, module, out var rank) ? rank : Rank;

    /// <summary>What the update of a layer counts.</summary>
    public double ScaleOf(string module)
    {
        var alpha = TargetModules.FirstMatch(AlphaPattern, module, out var own) ? own : Alpha;
        var rank = RankOf(module);
        return alpha / (UseRslora ? Math.Sqrt(rank) : rank);
    }
}
