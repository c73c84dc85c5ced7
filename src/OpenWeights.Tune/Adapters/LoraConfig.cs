using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Settings of a LoRA adapter, with PEFT's names.</summary>
internal sealed record LoraConfig : AdapterConfig
{
    /// <summary>Rank r of the update.</summary>
    public int Rank { get; init; } = 8;

    /// <summary>lora_alpha: the update is scaled by alpha / r (rsLoRA: alpha / sqrt r).</summary>
    public double Alpha { get; init; } = 8;

    /// <summary>lora_dropout: dropout probability on the adapter's input while training.</summary>
    public double Dropout { get; init; }

    /// <summary>
    /// target_parameters: parameters to adapt, by full name or suffix, such as mlp.experts.down_proj, which holds a matrix of every expert, or a
    /// router's gate.weight.
    /// </summary>
    public IReadOnlyList<string> TargetParameters { get; init; } = [];

    /// <summary>lora_bias: whether B has a bias.</summary>
    public bool LoraBias { get; init; }

    /// <summary>use_dora: whether to train a magnitude per output (Liu et al., 2024).</summary>
    public bool UseDora { get; init; }

    /// <summary>init_lora_weights: initialization of the update.</summary>
    public LoraInit Init { get; init; }

    /// <summary>The n of init_lora_weights pissa_niter_n: subspace iterations of PiSSA's decomposition; null for an exact one.</summary>
    public int? PissaIterations { get; init; }

    /// <summary>eva_config.</summary>
    public EvaSettings Eva { get; init; } = new();

    /// <summary>corda_config.</summary>
    public CordaSettings Corda { get; init; } = new();

    /// <summary>loftq_config.</summary>
    public LoftqSettings Loftq { get; init; } = new();

    /// <summary>lora_ga_config.</summary>
    public LoraGaSettings LoraGa { get; init; } = new();

    /// <summary>use_bdlora: which modules have a block-diagonal A or B; null for none.</summary>
    public BlockDiagonalSettings? BlockDiagonal { get; init; }

    /// <summary>kasa_config: singular values between A and B, on a weight without its smallest ones; null for none.</summary>
    public KasaSettings? Kasa { get; init; }

    /// <summary>alora_invocation_tokens: tokens from whose last occurrence in a text on the update is applied; empty for all tokens.</summary>
    public IReadOnlyList<int> InvocationTokens { get; init; } = [];

    /// <summary>trainable_token_indices: tokens whose rows of an embedding or head are trained.</summary>
    public IReadOnlyList<TokenRows> TrainableTokens { get; init; } = [];

    /// <summary>Whether the adapter trains rows of tokens alone (peft_type TRAINABLE_TOKENS).</summary>
    public bool TrainsTokensAlone { get; init; }

    /// <summary>Number of tokens of a model whose vocabulary grows with a new adapter; null for the base's.</summary>
    public int? VocabularySize { get; init; }

    /// <summary>Rows of new tokens of a new adapter; null for none.</summary>
    internal NewRows? NewRows { get; init; }

    /// <summary>layer_replication: ranges of the base's layers, first and end, that make up the model; empty for the base's own layers.</summary>
    public IReadOnlyList<(int First, int End)> LayerReplication { get; init; } = [];

    /// <summary>use_rslora: whether the update is scaled by alpha / sqrt r (Kalajdzievski, 2023).</summary>
    public bool UseRslora { get; init; }

    /// <summary>rank_pattern: ranks of individual modules, by name or pattern.</summary>
    public IReadOnlyDictionary<string, int> RankPattern { get; init; } = new Dictionary<string, int>();

    /// <summary>alpha_pattern: alphas of individual modules, by name or pattern.</summary>
    public IReadOnlyDictionary<string, double> AlphaPattern { get; init; } = new Dictionary<string, double>();

    /// <summary>ensure_weight_tying: whether tied embedding and head stay tied when adapted or trained in full.</summary>
    public bool EnsureWeightTying { get; init; }

    /// <inheritdoc/>
    internal override bool Takes(nn.Module module) => module is LinearLayer or TokenEmbedding;

    /// <inheritdoc/>
    internal override IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [("rank_pattern", RankPattern.Keys), ("alpha_pattern", AlphaPattern.Keys)];

    /// <inheritdoc/>
    public override bool AdaptsParameter(string parameter)
    {
        ArgumentNullException.ThrowIfNull(parameter);
        return TargetParameters.Any(name => parameter == name || parameter.EndsWith("." + name, StringComparison.Ordinal)) && !SavesWhole(parameter);
    }

    /// <summary>The name by which a linear layer's rank and alpha are found: its weight's if that is a target itself, and otherwise the layer's.</summary>
    /// <param name="module">Name of the layer.</param>
    internal string PatternName(string module) => AdaptsParameter($"{module}.weight") ? $"{module}.weight" : module;

    /// <summary>Rank of a module.</summary>
    public int RankOf(string module) => TargetModules.FirstMatch(RankPattern, module, out var rank) ? rank : Rank;

    /// <summary>Scaling factor of a module's update.</summary>
    public double ScaleOf(string module)
    {
        var rank = RankOf(module);
        return AlphaOf(module) / (UseRslora ? Math.Sqrt(rank) : rank);
    }

    /// <summary>lora_alpha of a module.</summary>
    internal double AlphaOf(string module) => TargetModules.FirstMatch(AlphaPattern, module, out var alpha) ? alpha : Alpha;
}
