using System.Globalization;
using System.Text.RegularExpressions;

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

    /// <summary>layers_to_transform: the only layers whose modules are adapted, by their numbers; empty for all.</summary>
    public IReadOnlyList<int> LayersToTransform { get; init; } = [];

    /// <summary>layers_pattern: names of the list that these layers stand in, such as layers; empty for any.</summary>
    public IReadOnlyList<string> LayersPattern { get; init; } = [];

    /// <summary>modules_to_save: modules that are trained whole, by whole names or the ends of them; they are never adapted.</summary>
    public IReadOnlyList<string> ModulesToSave { get; init; } = [];

    /// <summary>bias: which biases of the base are trained along.</summary>
    public BiasTraining Bias { get; init; }

    /// <summary>lora_bias: whether B has a bias.</summary>
    public bool LoraBias { get; init; }

    /// <summary>use_dora: whether each output has a magnitude of its own (Liu et al., 2024).</summary>
    public bool UseDora { get; init; }

    /// <summary>init_lora_weights: how the update starts.</summary>
    public LoraInit Init { get; init; }

    /// <summary>use_rslora: whether the update counts alpha / sqrt r (Kalajdzievski, 2023).</summary>
    public bool UseRslora { get; init; }

    /// <summary>rank_pattern: ranks of single layers, by names or patterns.</summary>
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>alpha_pattern: alphas of single layers, by names or patterns.</summary>
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    /// <summary>ensure_weight_tying: whether an embedding and a head that are one weight in the base are adapted, or trained whole, as one.</summary>
    public bool EnsureWeightTying { get; init; }

    /// <summary>Whether a module is adapted, by PEFT's rules.</summary>
    /// <param name="module">The module's name, such as model.layers.0.self_attn.q_proj.</param>
    public bool Adapts(string module) =>
        Excluded?.Matches(module) != true
        && !SavesWhole(module)
        && Targets.Matches(module)
        && (LayersToTransform.Count == 0 || Targets.Names?.Contains(module) == true || (LayerOf(module) is { } layer && LayersToTransform.Contains(layer)));

    /// <summary>Whether a module, or one that it is in, is trained whole.</summary>
    /// <param name="module">The module's name, such as model.embed_tokens.</param>
    public bool SavesWhole(string module)
    {
        var dotted = $".{module}.";
        return ModulesToSave.Any(m => dotted.Contains($".{m}.", StringComparison.Ordinal));
    }

    /// <summary>The rank of a layer.</summary>
    public int RankOf(string module) => TargetModules.FirstMatch(RankPattern, module, out var rank) ? rank : Rank;

    /// <summary>What the update of a layer counts.</summary>
    public double ScaleOf(string module)
    {
        var alpha = TargetModules.FirstMatch(AlphaPattern, module, out var own) ? own : Alpha;
        var rank = RankOf(module);
        return alpha / (UseRslora ? Math.Sqrt(rank) : rank);
    }

    // The first number after the name of the list of layers; a later one may be that of an expert.
    private int? LayerOf(string module)
    {
        var lists = LayersPattern.Count == 0 ? [@"[^.]*"] : LayersPattern;
        foreach (var list in lists)
        {
            if (Regex.Match(module, $@"\A.*?\.(?:{list})\.(\d+)\.", RegexOptions.None, TargetModules.Patience) is { Success: true } found)
            {
                return int.Parse(found.Groups[^1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);
            }
        }

        return null;
    }
}

/// <summary>How a LoRA update starts (PEFT's init_lora_weights).</summary>
public enum LoraInit
{
    /// <summary>true: A uniform within 1 / sqrt(in), B zero, so that it starts as nothing.</summary>
    Kaiming,

    /// <summary>gaussian: A normal with a standard deviation of 1 / rank, B zero.</summary>
    Gaussian,

    /// <summary>pissa: the weight's largest singular values and vectors (Meng et al., 2024), less themselves: nothing again.</summary>
    Pissa,
}

/// <summary>Which biases of the base an adapter trains along (PEFT's bias).</summary>
public enum BiasTraining
{
    /// <summary>none.</summary>
    None,

    /// <summary>all: every bias of the model.</summary>
    All,

    /// <summary>lora_only: those of the adapted layers.</summary>
    LoraOnly,
}
