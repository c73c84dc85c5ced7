using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>What Gemma 3n and Gemma 4 have in common: an embedding for each layer, and keys and values that later layers share.</summary>
internal abstract class LateGemmaGguf : GgufFamily
{
    private const string Sliding = "sliding_attention";
    private const string Full = "full_attention";

    /// <inheritdoc/>
    public override IReadOnlyList<string> ModulesWithoutLora => ["per_layer_model_proj"];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> OuterModules =>
    [
        .. base.OuterModules,
        ("model.embed_tokens_per_layer", "per_layer_token_embd"),
        ("model.per_layer_model_projection", "per_layer_model_proj"),
        ("model.per_layer_projection_norm", "per_layer_proj_norm"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("per_layer_input_gate", "inp_gate"),
        ("per_layer_projection", "proj"),
        ("post_per_layer_input_norm", "post_norm"),
    ];

    /// <summary>Tokens beyond the embedding for each layer have that of the first token, in as many rows as there are tokens.</summary>
    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (gguf != "per_layer_token_embd.weight")
        {
            return base.FormOf(gguf, config);
        }

        var (own, all) = (config.Int("vocab_size_per_layer_input", 262144), config.Int("vocab_size"));
        return own == all ? GgufForm.Same : new GgufForm { Rows = GgufForm.Order(all, token => token < own ? token : 0) };
    }

    /// <summary>Writes the keys that both have.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    protected void WriteLateSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        WriteCommonSettings(config, metadata);
        RefuseBiases(config, "attention_bias");
        var slides = Slides(config);
        metadata.Add($"{Architecture}.attention.sliding_window", (uint)config.Int("sliding_window", Facts.SlidingWindow));
        metadata.Add($"{Architecture}.attention.sliding_window_pattern", slides.ToArray());
        metadata.Add($"{Architecture}.attention.shared_kv_layers", (uint)Shared(config));
        metadata.Add($"{Architecture}.embedding_length_per_layer_input", (uint)PerLayerWidth(config));
        metadata.Add($"{Architecture}.rope.freq_base_swa", (float)LocalTheta(config));
        RequireLenders(config, slides);
    }

    /// <summary>Adds the settings that both have.</summary>
    /// <param name="file">The GGUF file.</param>
    /// <param name="config">Destination.</param>
    /// <param name="slides">Whether each layer has a sliding window.</param>
    protected void ReadLateSettings(GgufFile file, JsonObject config, IReadOnlyList<bool> slides)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentNullException.ThrowIfNull(config);
        var metadata = file.Metadata;
        config["layer_types"] = new JsonArray([.. slides.Select(static s => (JsonNode)(s ? Sliding : Full))]);
        config["sliding_window"] = metadata.Int($"{Architecture}.attention.sliding_window") ?? Facts.SlidingWindow;
        config["hidden_activation"] = Facts.Activation;
        config["rope_local_base_freq"] = Round(metadata.Number($"{Architecture}.rope.freq_base_swa") ?? 10000);
        if (file.Contains("per_layer_token_embd.weight"))
        {
            config["vocab_size_per_layer_input"] = file.GetTensor("per_layer_token_embd.weight").Shape[0];
        }
    }

    /// <summary>Whether each layer has a sliding window.</summary>
    /// <param name="config">The model's config.json.</param>
    protected abstract IReadOnlyList<bool> Slides(ConfigJson config);

    /// <summary>Whether each layer has a sliding window, from layer_types.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="usual">Which have if there is no list.</param>
    protected bool[] Slides(ConfigJson config, Func<int, bool> usual)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Texts("layer_types") is { } types ? [.. types.Select(static t => t == Sliding)] : [.. Enumerable.Range(0, Layers(config)).Select(usual)];
    }

    /// <summary>The number of layers at the end that have no keys and values of their own.</summary>
    /// <param name="config">The model's config.json.</param>
    protected abstract int Shared(ConfigJson config);

    /// <summary>Width of a layer's own inputs; 0 for none.</summary>
    /// <param name="config">The model's config.json.</param>
    protected static int PerLayerWidth(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.IsNull("hidden_size_per_layer_input") ? 0 : (int)config.Number("hidden_size_per_layer_input", 256);
    }

    private static double LocalTheta(ConfigJson config)
    {
        var local = config.Object("rope_parameters")?.Object(Sliding);
        if (local?.Text("rope_type") is { } type and not "default")
        {
            throw config.Error("rope_parameters", $"llama.cpp has no rotary scaling of type '{type}' in layers with a sliding window.");
        }

        return local?.Number("rope_theta", 10000) ?? config.Number("rope_local_base_freq", 10000);
    }

    // llama.cpp takes the last layer before for full attention, and the one before it for windows.
    private void RequireLenders(ConfigJson config, IReadOnlyList<bool> slides)
    {
        var first = slides.Count - Shared(config);
        var own = slides.Take(first).ToList();
        if (slides.Skip(first).Any(kind => own.LastIndexOf(kind) != first - (kind ? 2 : 1)))
        {
            throw config.Error("num_kv_shared_layers", "llama.cpp requires the last layer with keys and values of its own to have full attention, and the one before it a sliding window.");
        }
    }
}
