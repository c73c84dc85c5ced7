using OpenWeights.Tune.Layers.FeedForward;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Reads the settings common to all families from a config.json, and writes them to one.</summary>
internal static class CommonSettings
{
    /// <summary>Apertus's activation, which has learned parameters.</summary>
    internal const string Xielu = "xielu";

    private static readonly Dictionary<string, Activation> s_activations = new()
    {
        ["silu"] = Activation.Silu,
        ["swish"] = Activation.Silu,
        ["gelu"] = Activation.Gelu,
        ["gelu_python"] = Activation.Gelu,
        ["gelu_pytorch_tanh"] = Activation.GeluTanh,
        ["gelu_new"] = Activation.GeluTanh,
        ["gelu_fast"] = Activation.GeluTanh,
        ["quick_gelu"] = Activation.GeluSigmoid,
        ["relu"] = Activation.Relu,
        ["relu2"] = Activation.ReluSquared,
        ["mish"] = Activation.Mish,
        ["sigmoid"] = Activation.Sigmoid,
        ["tanh"] = Activation.Tanh,
    };

    /// <summary>The decoder config from the common settings; the family changes what differs.</summary>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="headWidth">Head dimension of the rotary embedding where head_dim does not say it; null for head_dim.</param>
    /// <param name="innerWidth">Hidden size of the feed-forward blocks where intermediate_size does not say it; null for intermediate_size.</param>
    internal static DecoderConfig Common(this ConfigReader config, FamilyFacts facts, int? headWidth = null, int? innerWidth = null)
    {
        config.RequireNoDropout(facts, "attention_dropout");
        var hidden = config.Int("hidden_size");
        var heads = config.Int("num_attention_heads");
        var keyValueHeads = config.OptionalInt("num_key_value_heads", facts.KeyValueHeads) ?? heads;
        config.Require("num_key_value_heads", heads % keyValueHeads == 0, $"{keyValueHeads} does not divide num_attention_heads, which is {heads}.");
        var headDimension = headWidth ?? config.OptionalInt("head_dim", facts.HeadDimension);
        config.Require("hidden_size", headDimension is not null || hidden % heads == 0, $"{hidden} is not a multiple of num_attention_heads, which is {heads}.");
        var width = headDimension ?? (hidden / heads);
        config.Require("head_dim", width % 2 == 0, $"{width} is odd; rotary embedding needs an even number.");
        var maxPositions = config.Int("max_position_embeddings", facts.MaxPositions);
        var attentionBias = facts.AttentionBias is { } usual && config.Flag("attention_bias", usual);
        var epsilon = config.Number(facts.NormEpsilonSetting, facts.NormEpsilon);
        return new DecoderConfig
        {
            ModelType = facts.ModelType,
            HiddenSize = hidden,
            IntermediateSize = innerWidth ?? config.Int("intermediate_size"),
            LayerCount = config.Layers(),
            HeadCount = heads,
            KeyValueHeadCount = keyValueHeads,
            HeadDimension = width,
            VocabularySize = config.Int("vocab_size"),
            MaxPositions = maxPositions,
            NormEpsilon = epsilon,
            Norm = new RmsNormSettings(epsilon),
            Rope = config.Rope(maxPositions, width, facts.RopeTheta, facts.PartialRotation, LayerTypes.Full, facts.OriginalMaxPositions, facts.RotatedShare),
            TiedEmbeddings = config.Flag("tie_word_embeddings", facts.TiedEmbeddings),
            QueryKeyValueBias = attentionBias,
            AttentionOutputBias = attentionBias,
            InitializerRange = config.Number("initializer_range", 0.02),
            Activation = config.ActivationOf(facts),
        };
    }

    /// <summary>Throws if there is dropout, unless published models of the family have it; none is applied either way.</summary>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="settings">The settings.</param>
    internal static void RequireNoDropout(this ConfigReader config, FamilyFacts facts, params ReadOnlySpan<string> settings)
    {
        foreach (var setting in settings)
        {
            config.Require(setting, config.Number(setting, 0) == 0 || facts.IgnoresDropout, "dropout is not supported; set it to 0.0.");
        }
    }

    /// <summary>The config.json of a new model: the common settings and those of a family.</summary>
    /// <param name="family">The family.</param>
    /// <param name="shape">Sizes of the model.</param>
    /// <param name="more">Additional settings of the family; null removes a setting.</param>
    internal static JsonObject NewConfig(IModelFamily family, ModelShape shape, params ReadOnlySpan<(string Key, JsonNode? Value)> more)
    {
        ArgumentNullException.ThrowIfNull(shape);
        var settings = new SortedDictionary<string, JsonNode?>(StringComparer.Ordinal)
        {
            ["architectures"] = new JsonArray(family.Facts.ClassName),
            ["attention_dropout"] = 0.0,
            ["bos_token_id"] = shape.BosToken,
            ["eos_token_id"] = shape.EosToken,
            ["head_dim"] = shape.HiddenSize / shape.Heads,
            [family.Facts.ActivationSetting] = family.Facts.Activation,
            ["hidden_size"] = shape.HiddenSize,
            ["initializer_range"] = 0.02,
            ["intermediate_size"] = shape.IntermediateSize,
            ["max_position_embeddings"] = shape.MaxPositions,
            ["model_type"] = family.ModelType,
            ["num_attention_heads"] = shape.Heads,
            ["num_hidden_layers"] = shape.Layers,
            ["num_key_value_heads"] = shape.KeyValueHeads,
            [family.Facts.NormEpsilonSetting] = 1e-5,
            ["rope_scaling"] = null,
            ["rope_theta"] = shape.RopeTheta,
            ["tie_word_embeddings"] = shape.TiedEmbeddings,
            ["torch_dtype"] = "float32",
            ["use_cache"] = true,
            ["vocab_size"] = shape.VocabularySize,
        };
        foreach (var (key, value) in more)
        {
            settings[key] = value;
        }

        return new JsonObject(settings);
    }

    /// <summary>The activation of the feed-forward blocks.</summary>
    internal static Activation ActivationOf(this ConfigReader config, FamilyFacts facts)
    {
        var name = config.Text(facts.ActivationSetting) ?? facts.Activation;
        if (name == Xielu && facts.Activation == Xielu)
        {
            return default;
        }

        return s_activations.TryGetValue(name, out var activation)
            ? activation
            : throw config.Error(facts.ActivationSetting, $"activation '{name}' is not supported; supported are {string.Join(", ", s_activations.Keys)}.");
    }
}
