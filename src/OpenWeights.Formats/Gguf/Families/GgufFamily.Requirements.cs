using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <content>Settings that llama.cpp does not compute.</content>
internal abstract partial class GgufFamily
{
    /// <summary>Throws if the config has a sliding window, which llama.cpp does not support for the architecture.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <exception cref="InvalidDataException">The config has one.</exception>
    protected static void RefuseWindows(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (config.Flag("use_sliding_window"))
        {
            throw config.Error("use_sliding_window", "llama.cpp has no sliding window for this family, so the result would differ from the model.");
        }
    }

    /// <summary>Throws if the config has biases that llama.cpp does not support for the architecture.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="keys">The settings that enable them.</param>
    /// <exception cref="InvalidDataException">One of them is enabled.</exception>
    protected static void RefuseBiases(ConfigJson config, params ReadOnlySpan<string> keys)
    {
        ArgumentNullException.ThrowIfNull(config);
        foreach (var key in keys)
        {
            if (config.Flag(key))
            {
                throw config.Error(key, "llama.cpp has no such biases for this family, so the result would differ from the model.");
            }
        }
    }

    /// <summary>Throws if num_attention_heads x head_dim is not hidden_size, where llama.cpp requires it.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <exception cref="InvalidDataException">They differ.</exception>
    protected void RequireUsualHeads(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (HeadLength(config) * config.Int("num_attention_heads") != config.Int("hidden_size"))
        {
            throw config.Error("head_dim", "llama.cpp requires num_attention_heads x head_dim to equal hidden_size for this family.");
        }
    }

    /// <summary>Throws if there are fewer key/value heads than heads, where llama.cpp requires as many.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <exception cref="InvalidDataException">There are fewer.</exception>
    protected void RequireKeyValueHeads(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (KeyValueHeads(config) != config.Int("num_attention_heads"))
        {
            throw config.Error("num_key_value_heads", "llama.cpp requires as many as num_attention_heads for this family.");
        }
    }

    /// <summary>Throws if layer_types differ from the single arrangement that llama.cpp supports.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="slides">Which layers have a window in llama.cpp.</param>
    /// <exception cref="InvalidDataException">The arrangement differs.</exception>
    protected static void RequireLayerTypes(ConfigJson config, Func<int, bool> slides)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (config.Texts("layer_types") is { } types && types.Where((type, layer) => type == "sliding_attention" != slides(layer)).Any())
        {
            throw config.Error("layer_types", "llama.cpp supports only the usual arrangement of layers with a sliding window, so the result would differ from the model.");
        }
    }

    private void RequireActivation(ConfigJson config)
    {
        var (setting, activation) = (Facts.ActivationSetting, Facts.Activation);
        if (config.Text(setting) is { } given && given != activation && !(given == "swish" && activation == "silu"))
        {
            throw config.Error(setting, $"llama.cpp computes {activation} for this family and not {given}, so the result would differ from the model.");
        }
    }

    /// <summary>Number of query heads of the first layer that share a key, as the file tells it; 0 for a layer without keys.</summary>
    /// <param name="config">The model's config.json.</param>
    public int QueriesPerKey(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var heads = !config.Has("num_attention_heads") ? 0 : config.Int("num_attention_heads");
        var keys = heads == 0 ? 0 : KeyValueHeadCount(config) switch
        {
            uint same => (int)same,
            IReadOnlyList<uint> { Count: > 0 } each => (int)each[0],
            _ => 0,
        };
        return keys == 0 ? 0 : heads / keys;
    }
}
