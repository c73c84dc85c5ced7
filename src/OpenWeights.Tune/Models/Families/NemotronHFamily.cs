using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Mixers;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Nemotron-H and Nemotron 3 (NVIDIA, 2025): each layer is a Mamba-2 mixer, attention without positions, a feed-forward, or a mixture of experts.
/// </summary>
internal sealed class NemotronHFamily : IModelFamily
{
    private const string Mixer = "mixer";

    // Of parts that are not read, aliases of what does not matter, and how it was trained.
    private static readonly string[] s_ignored =
    [
        "num_nextn_predict_layers", "mtp_layers_block_type", "mtp_hybrid_override_pattern", "mamba_ssm_cache_dtype", "moe_shared_expert_overlap", "n_shared_experts", "expand",
        "mamba_expand", "mamba_dt_max", "time_step_limit", "mamba_dt_limit", "mamba_dt_init_floor", "mamba_proj_bias", "num_hidden_layers", "rope_theta",
    ];

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.NemotronH;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.IgnoreMambaTraining();
        config.Ignore(s_ignored);
        config.Require("sliding_window", config.Number("sliding_window", 0) == 0, "a sliding window is not supported for this family; set it to null.");
        config.Require("attention_dropout", config.Number("attention_dropout", 0) == 0, "attention dropout is not supported; set it to 0.0.");
        var types = Types(config);
        var decoder = Decoder(config, types.Count);
        config.Require("rms_norm_eps", config.Number("rms_norm_eps", decoder.NormEpsilon) == decoder.NormEpsilon, "it must equal layer_norm_epsilon, the only one that is used.");
        config.Require("attention_head_dim", config.OptionalInt("attention_head_dim", decoder.HeadDimension) == decoder.HeadDimension, "it must equal head_dim, the only one that is used.");
        var none = new LayerConfig { Rope = null };
        var layers = new Dictionary<string, LayerConfig>
        {
            [MambaReader.Linear] = none with { Mixer = Mamba(config, decoder), Parts = LayerParts.MixerOnly },
            [LayerTypes.Full] = none with { Mixer = decoder.Attention with { ModuleName = Mixer }, Parts = LayerParts.MixerOnly },
            ["mlp"] = none with { FeedForward = Block(decoder, decoder.FeedForward.Inner, Mixer), Parts = LayerParts.FeedForwardOnly },
            ["moe"] = none with { FeedForward = Mixture(config, decoder), Parts = LayerParts.FeedForwardOnly },
        };
        return decoder with { Layers = [.. types.Select(type => layers[type])] };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var inner = 2 * shape.HiddenSize;
        string[] types = [MambaReader.Linear, "mlp", LayerTypes.Full, "moe"];
        return CommonSettings.NewConfig(
            this, shape, ("attention_bias", false), ("chunk_size", 128), ("conv_kernel", 4), ("hidden_act", null), ("layer_norm_epsilon", 1e-5),
            ("layers_block_type", new JsonArray([.. Enumerable.Range(0, shape.Layers).Select(i => (JsonNode)types[i % types.Length])])), ("mamba_head_dim", MambaReader.HeadDimension(inner)),
            ("mamba_hidden_act", "silu"), ("mamba_num_heads", inner / MambaReader.HeadDimension(inner)), ("mlp_bias", false), ("mlp_hidden_act", "relu2"),
            ("moe_intermediate_size", shape.IntermediateSize), ("moe_shared_expert_intermediate_size", shape.IntermediateSize), ("n_groups", 1), ("n_routed_experts", shape.Experts),
            ("norm_topk_prob", true), ("num_experts_per_tok", shape.ExpertsPerToken), ("num_hidden_layers", null), ("rms_norm_eps", null), ("rope_theta", null), ("ssm_state_size", 128),
            ("use_bias", false), ("use_conv_bias", true));
    }

    private DecoderConfig Decoder(ConfigReader config, int layers)
    {
        var heads = config.Int("num_attention_heads", 32);
        var keyValueHeads = config.OptionalInt("num_key_value_heads", Facts.KeyValueHeads) ?? heads;
        config.Require("num_key_value_heads", heads % keyValueHeads == 0, $"{keyValueHeads} does not divide num_attention_heads, which is {heads}.");
        var positions = config.Int("max_position_embeddings", Facts.MaxPositions);
        var epsilon = config.Number("layer_norm_epsilon", Facts.NormEpsilon);
        var bias = config.Flag("attention_bias");
        return new DecoderConfig
        {
            ModelType = Facts.ModelType,
            Names = new DecoderNames { Embedding = "embeddings", FinalNorm = "norm_f" },
            HiddenSize = config.Int("hidden_size", 4096),
            IntermediateSize = config.Int("intermediate_size", 21504),
            LayerCount = layers,
            HeadCount = heads,
            KeyValueHeadCount = keyValueHeads,
            HeadDimension = config.Int("head_dim", Facts.HeadDimension),
            VocabularySize = config.Int("vocab_size", 131072),
            MaxPositions = positions,
            NormEpsilon = epsilon,
            Norm = new RmsNormSettings(epsilon),
            NormPlacement = new NormPlacement("norm", null, "norm", null),
            Rope = new RopeConfig { Kind = RopeKind.Default, Theta = Facts.RopeTheta, OriginalMaxPositions = positions, RotatedShare = 1 },
            TiedEmbeddings = config.Flag("tie_word_embeddings", Facts.TiedEmbeddings),
            QueryKeyValueBias = bias,
            AttentionOutputBias = bias,
            FeedForwardBias = config.Flag("mlp_bias"),
            InitializerRange = config.Number("initializer_range", 0.02),
            Activation = config.ActivationOf(Facts),
        };
    }

    private static Mamba2Settings Mamba(ConfigReader config, DecoderConfig decoder)
    {
        config.RequireText("mamba_hidden_act", "silu");
        var heads = config.Int("mamba_num_heads", 128);
        var groups = config.Groups(Named(config, "n_groups", "mamba_n_groups"), 8, heads);
        var bias = config.Flag("use_bias");
        return new Mamba2Settings
        {
            ModuleName = Mixer,
            HiddenSize = decoder.HiddenSize,
            Heads = heads,
            HeadDimension = config.Int("mamba_head_dim", 64),
            Groups = groups,
            StateSize = config.Dimension("ssm_state_size", 128),
            Kernel = config.Dimension(Named(config, "conv_kernel", "mamba_d_conv"), 4),
            ConvolutionBias = config.Flag(Named(config, "use_conv_bias", "mamba_conv_bias"), true),
            InputBias = bias,
            OutputBias = bias,
            AdaptsOutput = false,

            // transformers' own computation clamps time steps at time_step_min, and does not read time_step_limit.
            Limits = new TimeStepLimits(config.Number(Named(config, "time_step_min", "mamba_dt_min"), 0.001), double.PositiveInfinity),
            Norm = new GatedNormSettings(decoder.NormEpsilon, groups, GateFirst: true),
        };
    }

    private MixtureSettings Mixture(ConfigReader config, DecoderConfig decoder)
    {
        var mixture = config.SigmoidMixture(decoder, Facts.Experts!);
        var latent = config.OptionalInt("moe_latent_size");
        return mixture with
        {
            ModuleName = Mixer,
            Experts = mixture.Experts with { HasGate = false, HiddenSize = latent ?? decoder.HiddenSize },
            Shared = Block(decoder, config.Dimension("moe_shared_expert_intermediate_size", 7688), "shared_experts"),
            Latent = latent is null ? null : new LatentProjections(decoder.HiddenSize, "fc1_latent_proj", "fc2_latent_proj", decoder.FeedForwardBias),
        };
    }

    private static PlainFeedForwardSettings Block(DecoderConfig decoder, Dimension inner, string name) =>
        new() { ModuleName = name, HiddenSize = decoder.HiddenSize, Inner = inner, Activation = decoder.Activation, HasBias = decoder.FeedForwardBias };

    // The older name counts where it is there.
    private static string Named(ConfigReader config, string name, string older)
    {
        _ = config.Has(name);
        return config.Has(older) ? older : name;
    }

    private static List<string> Types(ConfigReader config)
    {
        var pattern = config.Text("hybrid_override_pattern");
        var key = config.Has("layers_block_type") ? "layers_block_type" : config.Has("layer_types") ? "layer_types" : "hybrid_override_pattern";
        var given = key == "hybrid_override_pattern" ? pattern?.Select(static c => c.ToString()) : config.Texts(key);
        var types = (given ?? [MambaReader.Linear, "moe", LayerTypes.Full, "mlp"]).Select(type => type switch
        {
            "M" or "mamba" => MambaReader.Linear,
            "*" or "attention" => LayerTypes.Full,
            "-" => "mlp",
            "E" => "moe",
            MambaReader.Linear or LayerTypes.Full or "mlp" or "moe" => type,
            _ => throw config.Error(key, $"'{type}' is not supported; supported are {MambaReader.Linear}, {LayerTypes.Full}, mlp and moe (M, *, - and E in hybrid_override_pattern)."),
        }).ToList();
        config.Require(key, types.Count > 0, "it lists no layers.");
        return types;
    }
}
