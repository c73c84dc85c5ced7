namespace OpenWeights.Tune.Configuration;

/// <summary>
/// The adapter section, with PEFT's names: settings of every adapter type, those of LoRA, and in <see cref="Own"/> those of another type.
/// </summary>
public sealed record AdapterSection
{
    /// <summary>Adapter type. The properties below are those of lora, except where they say that all types have them; <see cref="With"/> sets those of another type.</summary>
    [AdapterTypeName(AllTypes = true)]
    public string Type
    {
        get;
        init
        {
            field = value;
            Own = Own?.TypeName == value ? Own : AdapterTypes.NewSettings(value);
        }
    } = AdapterTypes.Lora;

    /// <summary>The own settings of a type other than LoRA, in the file directly in this section; null for LoRA.</summary>
    internal AdapterTypeSettings? Own { get; init; }

    /// <summary>Adapter to continue training from.</summary>
    [Setting("Adapter to continue training from: a PEFT folder, a run folder or a checkpoint. Its own settings replace the others of this section.", IsPath = true, AllTypes = true)]
    public string? Path { get; init; }

    /// <summary>LoRA rank.</summary>
    [Setting("LoRA rank.", Key = "r", Min = 1)]
    public int Rank
    {
        get => GivenRank ?? 16;
        init => GivenRank = value;
    }

    /// <summary>The rank, if it was given; null for the default.</summary>
    internal int? GivenRank { get; private init; }

    /// <summary>Numerator of the LoRA scaling factor, lora_alpha.</summary>
    [Setting("LoRA alpha; the update is scaled by lora_alpha / r.", Min = 0)]
    public double LoraAlpha
    {
        get => GivenAlpha ?? 32;
        init => GivenAlpha = value;
    }

    /// <summary>Alpha, if it was given; null for the default.</summary>
    internal double? GivenAlpha { get; private init; }

    /// <summary>Dropout probability on the adapter's input, lora_dropout.</summary>
    [Setting("Dropout probability on the adapter's input while training.", Min = 0, Max = 0.999)]
    public double LoraDropout { get; init; }

    /// <summary>Modules to adapt, target_modules.</summary>
    [Setting("Modules to adapt: all-linear, a list of module names, or a regular expression that matches the full module name.", AllTypes = true)]
    public TextOrList TargetModules { get; init; } = new(["all-linear"], IsList: false);

    /// <summary>Parameters to adapt, target_parameters.</summary>
    [Setting("Parameters to adapt, by name: those of a mixture's experts, such as gate_up_proj and down_proj, and a router's gate.weight.")]
    public IReadOnlyList<string> TargetParameters { get; init; } = [];

    /// <summary>Modules excluded from target_modules, exclude_modules.</summary>
    [Setting("Modules to exclude from target_modules: a list of names, or a regular expression.", AllTypes = true)]
    public TextOrList? ExcludeModules { get; init; }

    /// <summary>Which biases of the base model are trained.</summary>
    [AdapterBiases(AllTypes = true)]
    public string Bias { get; init; } = "none";

    /// <summary>Whether to use rank-stabilized LoRA, use_rslora.</summary>
    [Setting("Rank-stabilized LoRA: scale the update by lora_alpha / sqrt(r) instead of lora_alpha / r.")]
    public bool UseRslora { get; init; }

    /// <summary>Whether to use DoRA, use_dora.</summary>
    [Setting("Weight-decomposed LoRA (DoRA): train a magnitude per output feature as well.")]
    public bool UseDora { get; init; }

    /// <summary>Initialization of A and B, init_lora_weights.</summary>
    [Setting("Initialization. true: A Kaiming uniform, B zero; gaussian: A normal, B zero; orthogonal: A and B with the product zero; mica: B from the weight's smallest singular values, not trained. Subtracted from the weight: pissa (its largest singular values; pissa_niter_4 and so on by as many iterations), olora (its QR decomposition), corda (with the inputs' covariance), lora_ga (of its gradient). eva: A from the inputs, which share out the ranks; loftq: what quantization loses. eva, corda and lora_ga read training data. The adapted model starts equal to the base, except with loftq.")]
    public string InitLoraWeights { get; init; } = "true";

    /// <summary>Number of training rows that a start reads, init_samples.</summary>
    [Setting("Number of training rows from which eva, corda and lora_ga are computed.", Min = 1)]
    public int InitSamples { get; init; } = 256;

    /// <summary>Settings of eva, eva_config.</summary>
    [Setting("Settings of init_lora_weights: eva.")]
    internal EvaSection EvaConfig { get; init; } = new();

    /// <summary>Settings of corda, corda_config.</summary>
    [Setting("Settings of init_lora_weights: corda.")]
    internal CordaSection CordaConfig { get; init; } = new();

    /// <summary>Settings of loftq, loftq_config.</summary>
    [Setting("Settings of init_lora_weights: loftq.")]
    internal LoftqSection LoftqConfig { get; init; } = new();

    /// <summary>Settings of lora_ga, lora_ga_config.</summary>
    [Setting("Settings of init_lora_weights: lora_ga.")]
    internal LoraGaSection LoraGaConfig { get; init; } = new();

    /// <summary>Number of tokens of a vocabulary that grows, vocab_size.</summary>
    [Setting("Number of tokens of the model with new ones, whose rows of embedding and head start as the mean of the others; the adapter's file has them, and trainable_token_indices or modules_to_save trains them. Left out, the base's own.", Min = 1)]
    public int? VocabSize { get; init; }

    /// <summary>Tokens whose rows are trained, trainable_token_indices.</summary>
    [Setting("Tokens whose rows of the embedding are trained, by number; or by module name, such as { embed_tokens: [5, 17], lm_head: [5, 17] }. A head that is tied to the embedding follows it.", Min = 0)]
    public IReadOnlyDictionary<string, IReadOnlyList<int>> TrainableTokenIndices { get; init; } = new Dictionary<string, IReadOnlyList<int>>();

    /// <summary>Tokens that switch the adapter on, alora_invocation_tokens.</summary>
    [Setting("Activated LoRA: token ids from whose last occurrence in a text on the adapter applies; before, keys and values are the base's and can be shared. Empty: the adapter applies to all tokens.", Min = 0)]
    public IReadOnlyList<int> AloraInvocationTokens { get; init; } = [];

    /// <summary>Ranges of the base's layers that make up the model, layer_replication.</summary>
    [Setting("Ranges [first layer, end] of the base's layers that make up the model, such as [[0, 4], [2, 5]]; copies share weights, and each has an update of its own.")]
    public IReadOnlyList<IReadOnlyList<int>> LayerReplication { get; init; } = [];

    /// <summary>Block-diagonal LoRA, use_bdlora.</summary>
    [Setting("Block-diagonal LoRA, for servers that split the model over several devices.")]
    internal BlockDiagonalSection? UseBdlora { get; init; }

    /// <summary>KaSA, kasa_config.</summary>
    [Setting("KaSA: trained singular values between A and B, on a weight without its r smallest ones; {} for the defaults.")]
    internal KasaSection? KasaConfig { get; init; }

    /// <summary>Modules trained in full alongside the adapter, modules_to_save.</summary>
    [Setting("Modules to train in full alongside the adapter, such as lm_head and embed_tokens.", AllTypes = true)]
    public IReadOnlyList<string> ModulesToSave { get; init; } = [];

    /// <summary>Whether the adapter at path may have been trained on a different base model.</summary>
    [Setting("Allow an adapter (path) that was trained on a base model with different weights.", AllTypes = true)]
    public bool AnyBase { get; init; }

    /// <summary>Whether tied embedding and output head stay tied, ensure_weight_tying.</summary>
    [Setting("Keep tied embedding and output head weights tied when they are adapted or trained in full; otherwise they become two separate weights.")]
    public bool EnsureWeightTying { get; init; }

    /// <summary>Indexes of the layers to adapt, layers_to_transform.</summary>
    [Setting("Indexes of the layers to adapt, from 0; empty for all layers.", Min = 0, AllTypes = true)]
    public IReadOnlyList<int> LayersToTransform { get; init; } = [];

    /// <summary>Name of the module list that layers_to_transform indexes, layers_pattern.</summary>
    [Setting("Name of the module list that layers_to_transform indexes, such as layers, for a model with several lists.", AllTypes = true)]
    public TextOrList? LayersPattern { get; init; }

    /// <summary>Whether B has a bias, lora_bias.</summary>
    [Setting("Add a bias to the B projection.")]
    public bool LoraBias { get; init; }

    /// <summary>LoRA+ learning rate ratio, loraplus_lr_ratio.</summary>
    [Setting("LoRA+: ratio of the learning rate of B matrices and one-dimensional parameters to that of A matrices.", Min = 0)]
    public double LoraplusLrRatio { get; init; } = 1;

    /// <summary>LoRA+ learning rate of embedding adapters, loraplus_lr_embedding.</summary>
    [Setting("LoRA+: learning rate of adapted embeddings; used only if loraplus_lr_ratio is not 1.", Min = 0)]
    public double LoraplusLrEmbedding { get; init; } = 1e-6;

    /// <summary>Ranks of individual modules, rank_pattern.</summary>
    [Setting("Ranks of individual modules, by name or pattern; they override r.")]
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>Alphas of individual modules, alpha_pattern.</summary>
    [Setting("Alphas of individual modules, by name or pattern; they override lora_alpha.")]
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    /// <summary>
    /// A copy with one more setting, by its name in YAML, for settings that belong to one type of adapter or to one start and have no property here:
    /// <c>new AdapterSection { Type = "vera" }.With("r", 64)</c>, <c>new AdapterSection { InitLoraWeights = "eva" }.With("eva_config.rho", 1)</c>.
    /// </summary>
    /// <remarks>
    /// Of lora: eva_config (rho, tau, use_label_mask, whiten, adjust_scaling_factors), corda_config (corda_method), loftq_config (loftq_bits, loftq_iter),
    /// lora_ga_config (direction, scale, stable_gamma), kasa_config (beta, gamma, penalize), use_bdlora (target_modules_bd_a, target_modules_bd_b, nblocks,
    /// match_strict). The names of other types are in docs/adapters.md, and with what they do in docs/settings.md.
    /// </remarks>
    /// <param name="name">The name, with a dot before that of a setting of a setting; every name of the section is understood.</param>
    /// <param name="value">Its value: a text, a number, true or false, a list, or a dictionary of names and values.</param>
    /// <exception cref="ConfigException">There is no such setting in a section of this type, or the value is invalid.</exception>
    public AdapterSection With(string name, object? value)
    {
        var copy = this with { Own = Own is null ? null : Own with { } };
        NamedSetting.Set(copy, "adapter.", name, value);
        return copy;
    }
}
