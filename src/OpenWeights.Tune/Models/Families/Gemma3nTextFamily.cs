using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Streams;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Text models of Gemma 3n (Google, 2025): several residual streams (AltUp), residual layers beside attention (LAuReL), an embedding for
/// each layer, keys and values that later layers share, and sparse feed-forward blocks.
/// </summary>
internal sealed class Gemma3nTextFamily : IModelFamily
{
    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Gemma3nText;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var widths = config.IntsOrOne("intermediate_size", 16384);
        var decoder = config.CommonOfLateGemma(Facts, widths.Max());
        config.Require("intermediate_size", widths.Count == 1 || widths.Count == decoder.LayerCount, $"it lists {widths.Count} layers; num_hidden_layers is {decoder.LayerCount}.");
        var slides = LayerTypes.Read(config, decoder.LayerCount, static i => (i + 1) % 5 != 0);
        var (sparse, keysOf) = (Sparsity(config, decoder.LayerCount), config.KeysOf(slides, 15));
        var (local, window) = (config.LocalRope(decoder), config.Int("sliding_window", Facts.SlidingWindow));
        return decoder with
        {
            PerLayerInputs = config.PerLayerInputsOf(decoder) ?? throw config.Error("hidden_size_per_layer_input", "a number above zero is expected."),
            Streams = Streams(config, decoder),
            Laurel = new LaurelSettings { HiddenSize = decoder.HiddenSize, Rank = config.Int("laurel_rank", 64), Norm = decoder.Norm },
            Layers = [.. slides.Select((sliding, i) => new LayerConfig
            {
                Rope = sliding ? local : decoder.Rope,
                SlidingWindow = sliding ? window : null,
                Mixer = decoder.Attention with
                {
                    QueryKeyNorm = QueryKeyNorm.PerHead,
                    NormalizesValues = true,
                    KeysOf = keysOf[i],
                    Rope = sliding ? local : decoder.Rope,
                    SlidingWindow = sliding ? window : null,
                },
                FeedForward = decoder.FeedForward with { Inner = new Dimension("intermediate_size", widths[widths.Count == 1 ? 0 : i]), GateSparsity = sparse[i] },
            })],
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        JsonArray Each<T>(T value) => [.. Enumerable.Range(0, shape.Layers).Select(_ => JsonValue.Create(value))];
        return GemmaSettings.NewConfig(
            this, shape, ("activation_sparsity_pattern", Each(0.0)), ("altup_active_idx", 0), ("altup_coef_clip", 120.0), ("altup_correct_scale", true), ("altup_num_inputs", 4),
            ("final_logit_softcapping", 30.0), ("hidden_size_per_layer_input", Math.Max(8, shape.HiddenSize / 8)), ("intermediate_size", Each(shape.IntermediateSize)),
            ("laurel_rank", Math.Max(8, shape.HiddenSize / 32)), ("num_kv_shared_layers", 0), ("rms_norm_eps", 1e-6), ("rope_local_base_freq", 10000.0), ("rope_theta", 1e6),
            ("sliding_window", 512), ("vocab_size_per_layer_input", shape.VocabularySize));
    }

    private static AltUpSettings Streams(ConfigReader config, DecoderConfig decoder)
    {
        var (count, active) = (config.Int("altup_num_inputs", 4), config.Number("altup_active_idx", 0));
        config.Require("altup_num_inputs", count >= 2, $"{count} streams are not supported; two at least are expected.");
        config.Require("altup_active_idx", active >= 0 && active < count && active == Math.Floor(active), FormattableString.Invariant($"{active} is not the index of one of {count} streams."));
        return new AltUpSettings
        {
            HiddenSize = decoder.HiddenSize,
            Count = count,
            Active = (int)active,
            Limit = config.OptionalNumber("altup_coef_clip", 120),
            ScalesOutput = config.Flag("altup_correct_scale", true),
            Norm = decoder.Norm,
        };
    }

    private static IReadOnlyList<double> Sparsity(ConfigReader config, int layers)
    {
        var shares = config.Numbers("activation_sparsity_pattern") ?? [.. Enumerable.Range(0, layers).Select(i => layers > 10 && i < 10 ? 0.95 : 0)];
        config.Require("activation_sparsity_pattern", shares.Count == layers, $"it lists {shares.Count} layers; num_hidden_layers is {layers}.");
        config.Require("activation_sparsity_pattern", shares.All(static s => s is >= 0 and < 1), "each must be at least 0 and less than 1.");
        return shares;
    }
}
