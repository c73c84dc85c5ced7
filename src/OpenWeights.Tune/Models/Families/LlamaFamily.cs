using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Llama 1 to 3.3 (Touvron et al., 2023): pre-norm, rotary embedding, grouped queries, SwiGLU.</summary>
public sealed class LlamaFamily : IModelFamily
{
    /// <inheritdoc/>
    public string ModelType => "llama";

    /// <inheritdoc/>
    public string Architecture => "LlamaForCausalLM";

    /// <inheritdoc/>
    public DecoderConfig Read(ConfigReader config)
    {
        ArgumentNullException.ThrowIfNull(config);
        config.Require("hidden_act", (config.Text("hidden_act") ?? "silu") == "silu", $"activation '{config.Text("hidden_act")}' is not known to this family; silu is.");
        config.Require("attention_dropout", config.Number("attention_dropout", 0) == 0, "dropout of attention weights is not implemented; set it to 0.0.");
        var hidden = config.Int("hidden_size");
        var heads = config.Int("num_attention_heads");
        var keyValueHeads = config.Int("num_key_value_heads", heads);
        config.Require("num_key_value_heads", heads % keyValueHeads == 0, $"{keyValueHeads} does not divide num_attention_heads, which is {heads}.");
        config.Require("hidden_size", config.Has("head_dim") || hidden % heads == 0, $"{hidden} is not a multiple of num_attention_heads, which is {heads}.");
        var headDimension = config.Has("head_dim") ? config.Int("head_dim") : hidden / heads;
        config.Require("head_dim", headDimension % 2 == 0, $"{headDimension} is odd; rotary embedding wants pairs.");
        var maxPositions = config.Int("max_position_embeddings", 2048);
        return new DecoderConfig
        {
            ModelType = ModelType,
            HiddenSize = hidden,
            IntermediateSize = config.Int("intermediate_size"),
            LayerCount = config.Int("num_hidden_layers"),
            HeadCount = heads,
            KeyValueHeadCount = keyValueHeads,
            HeadDimension = headDimension,
            VocabularySize = config.Int("vocab_size"),
            MaxPositions = maxPositions,
            NormEpsilon = config.Number("rms_norm_eps", 1e-6),
            Rope = config.Rope(maxPositions),
            TiedEmbeddings = config.Flag("tie_word_embeddings"),
            QueryKeyValueBias = config.Flag("attention_bias"),
            AttentionOutputBias = config.Flag("attention_bias"),
            FeedForwardBias = config.Flag("mlp_bias"),
            InitializerRange = config.Number("initializer_range", 0.02),
        };
    }

    /// <inheritdoc/>
    public JsonObject NewConfig(ModelShape shape)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return new JsonObject
        {
            ["architectures"] = new JsonArray(Architecture),
            ["attention_bias"] = false,
            ["attention_dropout"] = 0.0,
            ["bos_token_id"] = shape.BosToken,
            ["eos_token_id"] = shape.EosToken,
            ["head_dim"] = shape.HiddenSize / shape.Heads,
            ["hidden_act"] = "silu",
            ["hidden_size"] = shape.HiddenSize,
            ["initializer_range"] = 0.02,
            ["intermediate_size"] = shape.IntermediateSize,
            ["max_position_embeddings"] = shape.MaxPositions,
            ["mlp_bias"] = false,
            ["model_type"] = ModelType,
            ["num_attention_heads"] = shape.Heads,
            ["num_hidden_layers"] = shape.Layers,
            ["num_key_value_heads"] = shape.KeyValueHeads,
            ["pretraining_tp"] = 1,
            ["rms_norm_eps"] = 1e-5,
            ["rope_scaling"] = null,
            ["rope_theta"] = shape.RopeTheta,
            ["tie_word_embeddings"] = shape.TiedEmbeddings,
            ["torch_dtype"] = "float32",
            ["use_cache"] = true,
            ["vocab_size"] = shape.VocabularySize,
        };
    }
}
