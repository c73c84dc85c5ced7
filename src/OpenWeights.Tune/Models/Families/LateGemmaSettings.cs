using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings common to Gemma 3n and 4.</summary>
internal static class LateGemmaSettings
{
    /// <summary>The common settings: Gemma's, but with norms that multiply by their weight alone, and scores that are not scaled.</summary>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="innerWidth">Hidden size of the feed-forward blocks; null for intermediate_size.</param>
    internal static DecoderConfig CommonOfLateGemma(this ConfigReader config, FamilyFacts facts, int? innerWidth = null)
    {
        var decoder = config.Common(facts, innerWidth: innerWidth).AsGemma(config);
        return decoder with
        {
            Norm = new RmsNormSettings(decoder.NormEpsilon, ScalesBeforeRounding: true),
            NormPlacement = NormPlacement.BeforeAndAfter,
            ScoreMultiplier = 1,
            LogitSoftCap = config.OptionalNumber("final_logit_softcapping", facts.LogitSoftCap),
        };
    }

    /// <summary>Each layer's own inputs; null if hidden_size_per_layer_input is 0.</summary>
    internal static PerLayerInputSettings? PerLayerInputsOf(this ConfigReader config, DecoderConfig decoder)
    {
        var vocabulary = config.Int("vocab_size_per_layer_input", 262144);
        return config.Number("hidden_size_per_layer_input", config.Mentions("hidden_size_per_layer_input") ? 0 : 256) == 0 ? null : new PerLayerInputSettings
        {
            HiddenSize = decoder.HiddenSize,
            Width = config.Int("hidden_size_per_layer_input", 256),
            LayerCount = decoder.LayerCount,
            VocabularySize = vocabulary,
            Activation = decoder.Activation,
            Norm = decoder.Norm,
        };
    }

    /// <summary>
    /// For each layer the index of the layer whose keys and values it uses: of the last num_kv_shared_layers, the last one before them of the
    /// same kind; null for its own.
    /// </summary>
    /// <param name="config">The config.</param>
    /// <param name="slides">Whether each layer has a sliding window.</param>
    /// <param name="fallback">num_kv_shared_layers if the config has none.</param>
    internal static int?[] KeysOf(this ConfigReader config, bool[] slides, int fallback)
    {
        var shared = config.Number("num_kv_shared_layers", fallback);
        config.Require("num_kv_shared_layers", shared >= 0 && shared < slides.Length && shared == Math.Floor(shared), FormattableString.Invariant($"{shared} is not between 0 and the number of layers, {slides.Length}."));
        var first = slides.Length - (int)shared;
        return [.. slides.Select((kind, i) =>
        {
            var lender = i < first ? -1 : Array.LastIndexOf(slides[..first], kind);
            config.Require(
                "num_kv_shared_layers", i < first || lender >= 0,
                string.Create(CultureInfo.InvariantCulture, $"layer {i} takes keys and values from an earlier layer of its kind ({(kind ? LayerTypes.Sliding : LayerTypes.Full)}), but none of the first {first} layers is of that kind."));
            return i < first ? (int?)null : lender;
        })];
    }

    /// <summary>Rotary embedding of the layers with a sliding window.</summary>
    internal static RopeConfig LocalRope(this ConfigReader config, DecoderConfig decoder) =>
        config.Object("rope_parameters")?[LayerTypes.Sliding] is JsonObject
            ? config.Rope(decoder.MaxPositions, decoder.HeadDimension, layerType: LayerTypes.Sliding)
            : new RopeConfig { Theta = config.Number("rope_local_base_freq", 10000), OriginalMaxPositions = decoder.MaxPositions };
}
