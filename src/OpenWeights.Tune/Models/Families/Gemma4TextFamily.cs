using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>
/// Text models of Gemma 4 (Google, 2026): layers with other heads where attention is full, normalized values, keys and values that later
/// layers share, an embedding for each layer, and a mixture of experts beside the feed-forward block.
/// </summary>
internal sealed class Gemma4TextFamily : IModelFamily
{
    private const double RotatedShare = 0.25;

    /// <inheritdoc/>
    public FamilyFacts Facts => FamilyTable.Gemma4Text;

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var decoder = config.CommonOfLateGemma(Facts);
        config.Require(
            "use_bidirectional_attention", config.Text("use_bidirectional_attention") is null or "vision",
            "attention to later tokens is not supported; supported are null and \"vision\", which is causal for text.");
        var slides = LayerTypes.Read(config, decoder.LayerCount, static i => (i + 1) % 6 != 0);

        // As in transformers, whatever the config says.
        slides[^1] = false;
        var attention = Attention(config, decoder, slides);
        var (wide, mixture) = (config.Flag("use_double_wide_mlp"), Mixture(config, decoder));
        var block = decoder.FeedForward;
        var doubled = block with { Inner = new Dimension("2 x intermediate_size", 2L * decoder.IntermediateSize) };
        FeedForwardSettings Block(AttentionSettings mixer) => wide && mixer.KeysOf is not null ? doubled : block;
        return decoder with
        {
            PerLayerInputs = config.PerLayerInputsOf(decoder),
            LayerFactor = "layer_scalar",
            Layers = [.. attention.Select(mixer => new LayerConfig
            {
                Rope = mixer.Rope,
                SlidingWindow = mixer.SlidingWindow,
                Mixer = mixer,
                FeedForward = mixture is null ? Block(mixer) : Beside(Block(mixer), mixture, decoder),
            })],
            RouterLossWeight = mixture is null ? 0 : config.RouterLossWeight(),
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var width = shape.HiddenSize / shape.Heads;
        JsonObject Rope(string type, double theta) => new() { ["rope_theta"] = theta, ["rope_type"] = type };
        var full = Rope("proportional", 1e6);
        full["partial_rotary_factor"] = RotatedShare;
        var json = GemmaSettings.NewConfig(
            this, shape, ("attention_k_eq_v", false), ("enable_moe_block", false), ("final_logit_softcapping", 30.0), ("global_head_dim", width),
            ("hidden_size_per_layer_input", 0), ("num_kv_shared_layers", 0), ("rms_norm_eps", 1e-6),
            ("rope_parameters", new JsonObject { [LayerTypes.Full] = full, [LayerTypes.Sliding] = Rope("default", 10000) }), ("sliding_window", 512));
        _ = json.Remove("rope_theta");
        _ = json.Remove("rope_scaling");
        return json;
    }

    private static FeedForwardPairSettings Beside(FeedForwardSettings block, MixtureSettings mixture, DecoderConfig decoder) => new()
    {
        First = block,
        Second = mixture,
        AfterFirst = "post_feedforward_layernorm_1",
        BeforeSecond = "pre_feedforward_layernorm_2",
        AfterSecond = "post_feedforward_layernorm_2",
        HiddenSize = decoder.HiddenSize,
        Norm = decoder.Norm,
    };

    private static MixtureSettings? Mixture(ConfigReader config, DecoderConfig decoder)
    {
        if (!config.Flag("enable_moe_block"))
        {
            _ = (config.Has("num_experts"), config.Has("top_k_experts"), config.Has("moe_intermediate_size"));
            return null;
        }

        var mixture = new MixtureSettings
        {
            ModuleName = "",
            ExpertsPerToken = config.Int("top_k_experts"),
            Router = new RouterSettings
            {
                Name = "router.proj",
                IsLinear = true,
                Normalizes = true,
                ExpertScale = "router.per_expert_scale",
                Input = new RouterInput(new RmsNormSettings(decoder.NormEpsilon, ScalesBeforeRounding: true), "router.scale"),
            },
            Experts = new ExpertSettings
            {
                Count = config.Int("num_experts"),
                CountSetting = "num_experts",
                HiddenSize = decoder.HiddenSize,
                Inner = config.Dimension("moe_intermediate_size", null),
                Activation = decoder.Activation,
            },
        };
        config.RequireExperts(mixture, "top_k_experts");
        return mixture;
    }

    private AttentionSettings[] Attention(ConfigReader config, DecoderConfig decoder, bool[] slides)
    {
        var same = config.Flag("attention_k_eq_v");
        var (global, globalHeads) = (config.Int("global_head_dim", 512), config.OptionalInt("num_global_key_value_heads"));
        var window = config.Int("sliding_window", Facts.SlidingWindow);
        var full = config.Has("rope_parameters")
            ? decoder.Rope
            : decoder.Rope with { Kind = RopeKind.Proportional, TurnedShare = RotatedShare };
        var (local, keysOf, layers) = (config.LocalRope(decoder), config.KeysOf(slides, 0), config.Object("per_layer_config"));
        return [.. slides.Select((sliding, i) =>
        {
            var own = layers is not null ? layers[i.ToString(CultureInfo.InvariantCulture)] as JsonObject ?? [] : sliding ? [] : Global(global, same ? globalHeads : null);
            var heads = Value(config, own, i, "num_key_value_heads", decoder.KeyValueHeadCount);
            config.Require("per_layer_config", decoder.HeadCount % heads == 0, $"num_key_value_heads of layer {i}, {heads}, does not divide num_attention_heads, which is {decoder.HeadCount}.");
            return decoder.Attention with
            {
                HeadDimension = Value(config, own, i, "head_dim", decoder.HeadDimension),
                KeyValueHeadCount = heads,
                QueryKeyNorm = QueryKeyNorm.PerHead,
                NormalizesValues = true,
                ValuesAreKeys = same && !sliding,
                KeysOf = keysOf[i],
                Rope = sliding ? local : full,
                SlidingWindow = sliding ? window : null,
            };
        })];
    }

    private static JsonObject Global(int width, int? heads)
    {
        var own = new JsonObject { ["head_dim"] = width };
        if (heads is { } count)
        {
            own["num_key_value_heads"] = count;
        }

        return own;
    }

    private static int Value(ConfigReader config, JsonObject layer, int number, string key, int fallback)
    {
        var unknown = layer.Select(static p => p.Key).FirstOrDefault(static k => k is not ("head_dim" or "num_key_value_heads"));
        config.Require("per_layer_config", unknown is null, $"'{unknown}' of layer {number} is not supported; supported are head_dim and num_key_value_heads.");
        var value = config.Number(layer[key], $"per_layer_config: {number}: {key}", fallback);
        config.Require("per_layer_config", value >= 1 && value == Math.Floor(value), FormattableString.Invariant($"{key} of layer {number} is {value}; a whole number above zero is expected."));
        return (int)value;
    }
}
