using System.Text.Json.Nodes;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Reads the settings of Mamba-2 mixers, and the types of a hybrid's layers.</summary>
internal static class MambaReader
{
    internal const string Linear = "linear_attention";

    // How it is initialised, computed or cached; z_loss_coefficient is of a loss that transformers does not compute.
    private static readonly string[] s_ignored =
    [
        "time_step_min", "time_step_max", "time_step_floor", "time_step_rank", "time_step_init_scheme", "time_step_scale", "rescale_prenorm_residual",
        "residual_in_fp32", "chunk_size", "mamba_chunk_size", "num_logits_to_keep", "use_mamba_kernels", "use_mambapy", "use_associative_scan", "z_loss_coefficient",
    ];

    /// <summary>Settings named mamba_ and so on, as Bamba, Falcon-H1 and Granite have them.</summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">What was read before.</param>
    /// <param name="innerSetting">A setting that gives the width of all heads together, if it is there.</param>
    internal static Mamba2Settings Mamba2(this ConfigReader config, DecoderConfig decoder, string? innerSetting = null)
    {
        config.IgnoreMambaTraining();
        var heads = config.Int("mamba_n_heads", 128);
        var expanded = config.Number("mamba_expand", 2) * decoder.HiddenSize;
        var inner = innerSetting is not null && config.OptionalInt(innerSetting, 1024) is { } given ? given : (int)expanded;
        config.Require("mamba_n_heads", inner % heads == 0, $"{heads} does not divide the width of the mixer, which is {inner}.");
        var width = config.IsText("mamba_d_head", "auto") ? inner / heads : config.Int("mamba_d_head", inner / heads);
        config.Require("mamba_d_head", width * heads == inner, $"{heads} heads of {width} are not as wide as the mixer, which is {inner}.");
        var projection = config.Flag("mamba_proj_bias");
        var groups = config.Groups("mamba_n_groups", 1, heads);
        config.RequireSilu(decoder);
        return new Mamba2Settings
        {
            HiddenSize = decoder.HiddenSize,
            Heads = heads,
            HeadDimension = width,
            Groups = groups,
            StateSize = new Dimension("mamba_d_state", config.Int("mamba_d_state", 256)),
            Kernel = new Dimension("mamba_d_conv", config.Int("mamba_d_conv", 4)),
            ConvolutionBias = config.Flag("mamba_conv_bias", true),
            InputBias = projection,
            OutputBias = projection,
            Limits = config.TimeStepLimits("time_step_limit"),
            Norm = new GatedNormSettings(decoder.NormEpsilon, groups, GateFirst: true),
        };
    }

    /// <summary>The number of groups of heads.</summary>
    internal static int Groups(this ConfigReader config, string key, int fallback, int heads)
    {
        var groups = config.Int(key, fallback);
        config.Require(key, heads % groups == 0, $"{groups} does not divide the number of heads, which is {heads}.");
        return groups;
    }

    /// <summary>Throws if the convolution's activation, which is also that of the feed-forward, is not SiLU.</summary>
    internal static void RequireSilu(this ConfigReader config, DecoderConfig decoder) =>
        config.Require("hidden_act", decoder.Activation == Activation.Silu, "Mamba's convolution is supported only with silu.");

    /// <summary>The limits of time steps: two numbers.</summary>
    internal static TimeStepLimits TimeStepLimits(this ConfigReader config, string key)
    {
        if (config.Numbers(key) is not { } limits)
        {
            return new TimeStepLimits(0, double.PositiveInfinity);
        }

        config.Require(key, limits.Count == 2 && limits[0] >= 0 && limits[0] <= limits[1], "two numbers are expected, the least time step, not below zero, and the largest.");
        return new TimeStepLimits(limits[0], limits[1]);
    }

    /// <summary>Whether each layer is attention, from a list of types; mamba and attention are older names of them.</summary>
    /// <param name="config">The config.</param>
    /// <param name="key">The list's setting.</param>
    /// <param name="layers">Number of layers.</param>
    /// <returns>Null where there is no list.</returns>
    internal static bool[]? AttentionLayers(this ConfigReader config, string key, int layers)
    {
        if (config.Texts(key) is not { } types)
        {
            return null;
        }

        config.Require(key, types.Count == layers, $"it lists {types.Count} layers; num_hidden_layers is {layers}.");
        var unknown = types.FirstOrDefault(static t => t is not (LayerTypes.Full or Linear or "attention" or "mamba" or "mamba2"));
        config.Require(key, unknown is null, $"'{unknown}' is not supported; supported are {LayerTypes.Full} and {Linear} (or attention and mamba).");
        return [.. types.Select(static t => t is LayerTypes.Full or "attention")];
    }

    /// <summary>Marks as read what is of a Mamba mixer's initialisation and training.</summary>
    internal static void IgnoreMambaTraining(this ConfigReader config) => config.Ignore(s_ignored);

    /// <summary>The settings of a new model that <see cref="Mamba2"/> reads.</summary>
    internal static (string Key, JsonNode? Value)[] New(ModelShape shape)
    {
        // Heads of at most 64, as checkpoints have them.
        var inner = 2 * shape.HiddenSize;
        return
        [
            ("mamba_chunk_size", 256), ("mamba_conv_bias", true), ("mamba_d_conv", 4), ("mamba_d_head", HeadDimension(inner)), ("mamba_d_state", 128), ("mamba_expand", 2),
            ("mamba_n_groups", 1), ("mamba_n_heads", inner / HeadDimension(inner)), ("mamba_proj_bias", false),
        ];
    }

    /// <summary>The largest head dimension up to 64 that divides a width.</summary>
    internal static int HeadDimension(int inner) => Enumerable.Range(1, 64).Last(width => inner % width == 0);
}
