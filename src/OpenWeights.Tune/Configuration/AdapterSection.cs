namespace OpenWeights.Tune.Configuration;

/// <summary>The adapter of a run, under PEFT's names.</summary>
public sealed record AdapterSection
{
    /// <summary>The kind of adapter.</summary>
    [Setting("The kind of adapter.", OneOf = ["lora"])]
    public string Type { get; init; } = "lora";

    /// <summary>An adapter to go on from.</summary>
    [Setting("A PEFT folder, or a run's folder or checkpoint, to go on from; its settings then hold, and those here are left out of account.", IsPath = true)]
    public string? Path { get; init; }

    /// <summary>The rank.</summary>
    [Setting("The rank of the update.", Key = "r", Min = 1)]
    public int Rank { get; init; } = 16;

    /// <summary>lora_alpha.</summary>
    [Setting("The update counts lora_alpha / r.", Min = 0)]
    public double LoraAlpha { get; init; } = 32;

    /// <summary>lora_dropout.</summary>
    [Setting("The share of the adapter's inputs that training leaves out at random.", Min = 0, Max = 0.999)]
    public double LoraDropout { get; init; }

    /// <summary>target_modules.</summary>
    [Setting("The layers to adapt: all-linear, a list of names, or a regular expression of whole names.")]
    public TextOrList TargetModules { get; init; } = new(["all-linear"], IsList: false);

    /// <summary>exclude_modules.</summary>
    [Setting("Layers that are left out again: a list of names, or a regular expression.")]
    public TextOrList? ExcludeModules { get; init; }

    /// <summary>bias.</summary>
    [Setting("Which biases of the base are trained along: none, all, or lora_only for those of the adapted layers.", OneOf = ["none", "all", "lora_only"])]
    public string Bias { get; init; } = "none";

    /// <summary>use_rslora.</summary>
    [Setting("Whether the update counts lora_alpha / sqrt(r) instead (rank-stabilised LoRA).")]
    public bool UseRslora { get; init; }

    /// <summary>use_dora.</summary>
    [Setting("Whether each output has a trained magnitude of its own (weight-decomposed LoRA).")]
    public bool UseDora { get; init; }

    /// <summary>init_lora_weights.</summary>
    [Setting("How the adapter starts, always changing nothing: true (A random, B zero), gaussian (A normal), or pissa (from the weights' largest singular values).", OneOf = ["true", "gaussian", "pissa"])]
    public string InitLoraWeights { get; init; } = "true";

    /// <summary>modules_to_save.</summary>
    [Setting("Modules that are trained whole beside the adapter, such as lm_head and embed_tokens.")]
    public IReadOnlyList<string> ModulesToSave { get; init; } = [];

    /// <summary>Whether path may be of an adapter that was made for another base.</summary>
    [Setting("Whether an adapter that is gone on from (path) may have been made for a base with other values than this one's.")]
    public bool AnyBase { get; init; }

    /// <summary>ensure_weight_tying.</summary>
    [Setting("Whether an embedding and an output head that are one weight in the model are adapted, or trained whole, as one; else they become two.")]
    public bool EnsureWeightTying { get; init; }

    /// <summary>layers_to_transform.</summary>
    [Setting("The only layers to adapt, by number from 0; empty for all.", Min = 0)]
    public IReadOnlyList<int> LayersToTransform { get; init; } = [];

    /// <summary>layers_pattern.</summary>
    [Setting("The name of the list that layers_to_transform counts in, such as layers, where there are several.")]
    public TextOrList? LayersPattern { get; init; }

    /// <summary>lora_bias.</summary>
    [Setting("Whether B has a bias of its own.")]
    public bool LoraBias { get; init; }

    /// <summary>loraplus_lr_ratio.</summary>
    [Setting("LoRA+: how many times faster than A the matrices B and one-dimensional parameters learn.", Min = 0)]
    public double LoraplusLrRatio { get; init; } = 1;

    /// <summary>loraplus_lr_embedding.</summary>
    [Setting("LoRA+: the learning rate of updates of embeddings, where loraplus_lr_ratio is not 1.", Min = 0)]
    public double LoraplusLrEmbedding { get; init; } = 1e-6;

    /// <summary>rank_pattern.</summary>
    [Setting("Ranks of single layers, by name or pattern.")]
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>alpha_pattern.</summary>
    [Setting("Alphas of single layers, by name or pattern.")]
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();
}
