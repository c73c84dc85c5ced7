using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Mixers;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Mamba-2 (Dao and Gu, 2024): layers of a Mamba-2 mixer alone. Also Codestral Mamba.</summary>
internal sealed class Mamba2Family : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Mamba2;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.IgnoreMambaTraining();

        // transformers applies the norm after the gate whatever these say.
        config.Ignore("rms_norm", "norm_before_gate");
        var hidden = config.Int("hidden_size", 4096);
        var heads = config.Int("num_heads", 128);
        var width = config.Int("head_dim", 64);
        var inner = (int)(config.Number("expand", 2) * hidden);
        config.Require("num_heads", heads * width == inner, $"{heads} heads of {width} are not as wide as expand x hidden_size, which is {inner}.");
        config.Require("intermediate_size", config.OptionalInt("intermediate_size") is null || config.Int("intermediate_size") == inner, $"it must be expand x hidden_size, which is {inner}.");
        config.Require("hidden_act", config.Text("hidden_act") is null or "silu" or "swish", "only silu is supported.");
        var groups = config.Groups("n_groups", 8, heads);
        var bias = config.Flag("use_bias");
        var epsilon = config.Number("layer_norm_epsilon", Facts.NormEpsilon);
        var mixer = new Mamba2Settings
        {
            ModuleName = "mixer",
            HiddenSize = hidden,
            Heads = heads,
            HeadDimension = width,
            Groups = groups,
            StateSize = new Dimension("state_size", config.Int("state_size", 128)),
            Kernel = new Dimension("conv_kernel", config.Int("conv_kernel", 4)),
            ConvolutionBias = config.Flag("use_conv_bias", true),
            InputBias = bias,
            OutputBias = bias,
            AdaptsOutput = false,
            Limits = config.TimeStepLimits("time_step_limit"),
            Norm = new GatedNormSettings(epsilon, groups, GateFirst: true),
        };
        var layers = config.Layers(64);
        _ = config.Has("max_position_embeddings");
        return new DecoderConfig
        {
            ModelType = Facts.ModelType,
            Names = new DecoderNames { Stack = "backbone", Embedding = "embeddings", FinalNorm = "norm_f" },
            HiddenSize = hidden,
            IntermediateSize = inner,
            LayerCount = layers,
            HeadCount = heads,
            KeyValueHeadCount = heads,
            HeadDimension = width,
            VocabularySize = config.Int("vocab_size", 32768),
            MaxPositions = Facts.MaxPositions,
            NormEpsilon = epsilon,
            Norm = new RmsNormSettings(epsilon),
            NormPlacement = new NormPlacement("norm", null, null, null),
            Rope = new RopeConfig { Kind = RopeKind.Default, Theta = Facts.RopeTheta, OriginalMaxPositions = Facts.MaxPositions, RotatedShare = 1 },
            TiedEmbeddings = config.Flag("tie_word_embeddings", Facts.TiedEmbeddings),
            InitializerRange = config.Number("initializer_range", 0.1),
            Layers = [.. Enumerable.Repeat(new LayerConfig { Rope = null, Mixer = mixer, Parts = LayerParts.MixerOnly }, layers)],
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var inner = 2 * shape.HiddenSize;
        return CommonSettings.NewConfig(
            this, shape, ("attention_dropout", null), ("chunk_size", 256), ("conv_kernel", 4), ("expand", 2), ("head_dim", MambaReader.HeadDimension(inner)), ("initializer_range", 0.1),
            ("intermediate_size", null), ("layer_norm_epsilon", 1e-5), ("max_position_embeddings", null), ("n_groups", 1), ("num_attention_heads", null),
            ("num_heads", inner / MambaReader.HeadDimension(inner)), ("num_key_value_heads", null), ("rms_norm_eps", null), ("rope_theta", null), ("state_size", 128),
            ("use_bias", false), ("use_conv_bias", true));
    }
}
