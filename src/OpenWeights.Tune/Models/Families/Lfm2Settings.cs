using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Mixers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings common to the LFM families.</summary>
internal static class Lfm2Settings
{
    /// <summary>The names of an LFM's feed-forward.</summary>
    internal static FeedForwardNames FeedForwardNames { get; } = new("w1", "w3", "w2");

    /// <summary>The common settings under the families' names.</summary>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="innerWidth">Hidden size of the feed-forward blocks.</param>
    internal static DecoderConfig CommonLfm(this ConfigReader config, FamilyFacts facts, int innerWidth)
    {
        var epsilon = config.Number("norm_eps", facts.NormEpsilon);
        var decoder = config.Common(facts, innerWidth: innerWidth);
        return decoder with
        {
            Names = new DecoderNames { FinalNorm = "embedding_norm" },
            NormEpsilon = epsilon,
            Norm = new RmsNormSettings(epsilon),
            NormPlacement = new NormPlacement("operator_norm", null, "ffn_norm", null),
            QueryKeyNorm = QueryKeyNorm.PerHead,

            // The name in configs made before transformers had these families.
            TiedEmbeddings = config.Has("tie_embedding") ? config.Flag("tie_embedding") : decoder.TiedEmbeddings,
        };
    }

    /// <summary>Gives layers short convolutions or attention, and the families' feed-forward.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="config">The config.</param>
    /// <param name="types">The type of each layer.</param>
    /// <param name="attention">The attention of a layer of another type than convolutions.</param>
    internal static DecoderConfig WithConvolutions(this DecoderConfig decoder, ConfigReader config, IReadOnlyList<string> types, Func<string, LayerConfig> attention)
    {
        var convolution = new ConvolutionMixerSettings { HiddenSize = decoder.HiddenSize, Kernel = config.Dimension("conv_L_cache", 3), HasBias = config.Flag("conv_bias") };
        var feedForward = decoder.FeedForward with { ModuleName = "feed_forward", Names = FeedForwardNames };
        return decoder with
        {
            Layers = [.. types.Select(type => (type == LayerTypes.Convolution ? new LayerConfig { Rope = null, Mixer = convolution } : attention(type)) with { FeedForward = feedForward })],
        };
    }

    /// <summary>The attention of LFM 2.</summary>
    internal static LayerConfig Lfm2Attention(this DecoderConfig decoder) => new()
    {
        Rope = decoder.Rope,
        Mixer = decoder.Attention with { Rope = decoder.Rope, Names = new AttentionNames { Output = "out_proj", QueryNorm = "q_layernorm", KeyNorm = "k_layernorm" } },
    };

    /// <summary>Throws unless settings of the first published configs, which transformers does not read, are what they always are.</summary>
    internal static void RequireUsualLfm(this ConfigReader config, DecoderConfig decoder)
    {
        foreach (var setting in new[] { "block_dim", "conv_dim", "conv_dim_out" })
        {
            config.Require(setting, config.Int(setting, decoder.HiddenSize) == decoder.HiddenSize, $"a width other than hidden_size, which is {decoder.HiddenSize}, is not supported.");
        }

        foreach (var setting in new[] { "block_use_swiglu", "use_pos_enc" })
        {
            config.Require(setting, config.Flag(setting, true), "it must be true for this family.");
        }

        foreach (var setting in new[] { "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale", "block_use_xavier_init", "conv_use_xavier_init", "num_heads" })
        {
            _ = config.Has(setting);
        }
    }
}
