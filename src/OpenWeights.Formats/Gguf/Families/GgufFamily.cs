using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// How one family of models is represented in GGUF: names, settings, and transformations of weights
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py"/>). Converts in both directions.
/// </summary>
public abstract class GgufFamily
{
    private const string LayerPrefix = "model.layers.";
    private const string BlockPrefix = "blk.";

    /// <summary>Names of the family and defaults of its settings.</summary>
    public abstract FamilyFacts Facts { get; }

    /// <summary>GGUF's general.architecture.</summary>
    public abstract string Architecture { get; }

    /// <summary>
    /// Whether rows of query and key projections are permuted from split-half to interleaved rotary layout, as llama.cpp expects.
    /// </summary>
    public virtual bool PairsRotaryRows => false;

    /// <summary>Modules, by their names in GGUF, on which llama.cpp fails with a LoRA file.</summary>
    public virtual IReadOnlyList<string> ModulesWithoutLora => [];

    /// <summary>Name of the final norm in Hugging Face's checkpoints.</summary>
    public virtual string FinalNorm => "model.norm";

    /// <summary>Whether norms are layer norms, and not RMS norms.</summary>
    public virtual bool HasLayerNorms => false;

    /// <summary>Offset added to every norm's weight.</summary>
    public virtual float NormOffset => 0;

    /// <summary>Whether the output head may differ from the embedding.</summary>
    public virtual bool HasHead => true;

    /// <summary>Whether llama.cpp needs an output head in the file even if it is tied to the embedding.</summary>
    public virtual bool WantsHead => false;

    /// <summary>
    /// A layer's modules, by their names in Hugging Face and GGUF; a * stands for expert numbers, whose matrices GGUF stacks.
    /// </summary>
    public virtual IReadOnlyList<(string HuggingFace, string Gguf)> Modules { get; } =
    [
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", "ffn_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];

    /// <summary>A layer's tensors whose names end otherwise than in .weight or .bias, in Hugging Face or in GGUF.</summary>
    public virtual IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [];

    /// <summary>A layer's tensors that GGUF divides, or has with their dimensions in another order.</summary>
    public virtual IReadOnlyList<GgufSplit> Splits => [];

    /// <summary>How GGUF divides a checkpoint's tensor; null if it does not.</summary>
    /// <param name="name">Hugging Face's name.</param>
    /// <returns>The rule, and the names of GGUF's tensors.</returns>
    public (GgufSplit Split, IReadOnlyList<string> Names)? SplitOf(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return InLayer(name, LayerPrefix) is { } found && Splits.FirstOrDefault(s => s.Name == found.Tail) is { } split
            ? (split, [.. split.Pieces.Select(piece => $"{BlockPrefix}{found.Layer}.{piece}")])
            : null;
    }

    /// <summary>The checkpoint's tensor of which GGUF's is a piece; null if it is none.</summary>
    /// <param name="gguf">GGUF's name.</param>
    public (GgufSplit Split, string Name)? PieceOf(string gguf)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        return InLayer(gguf, BlockPrefix) is { } found && Splits.FirstOrDefault(s => s.Pieces.Contains(found.Tail)) is { } split
            ? (split, $"{LayerPrefix}{found.Layer}.{split.Name}")
            : null;
    }

    /// <summary>Whether a vector in GGUF is a matrix of one row in checkpoints.</summary>
    /// <param name="gguf">The name.</param>
    public virtual bool IsRow(string gguf) => IsRouter(gguf) && gguf.EndsWith(".weight", StringComparison.Ordinal);

    /// <summary>Finds the place in GGUF of a checkpoint's tensor.</summary>
    /// <param name="name">Hugging Face's name.</param>
    /// <param name="place">The place, if there is one.</param>
    public bool TryToGguf(string name, out GgufPlace place)
    {
        ArgumentNullException.ThrowIfNull(name);
        var (pattern, expert) = GgufPlace.Split(name);
        var gguf = Outer(name, static m => m.HuggingFace, static m => m.Gguf) ?? Inner(pattern, LayerPrefix, BlockPrefix, static m => m.HuggingFace, static m => m.Gguf);
        place = new GgufPlace(gguf ?? "", expert);
        return gguf is not null;
    }

    /// <summary>The checkpoint's name of a tensor in GGUF, with a * for the expert number if it contains several experts.</summary>
    /// <param name="name">GGUF's name.</param>
    /// <param name="huggingFace">Hugging Face's name, if there is one.</param>
    public bool TryToHuggingFace(string name, [NotNullWhen(true)] out string? huggingFace)
    {
        ArgumentNullException.ThrowIfNull(name);
        huggingFace = Outer(name, static m => m.Gguf, static m => m.HuggingFace) ?? Inner(name, BlockPrefix, LayerPrefix, static m => m.Gguf, static m => m.HuggingFace);
        return huggingFace is not null;
    }

    /// <summary>Whether a file with the family's architecture is of this family, if several share it.</summary>
    /// <param name="file">The file.</param>
    public virtual bool IsOf(GgufFile file) => true;

    /// <summary>Whether llama.cpp's quantizer treats a model as a 70B model, and uses more bits for the attention values.</summary>
    /// <param name="config">The model's config.json.</param>
    public virtual bool IsOf70Billion(ConfigJson config) => false;

    /// <summary>The number of heads whose rows are permuted in a tensor; 0 if rows are unchanged.</summary>
    /// <param name="gguf">The name.</param>
    /// <param name="heads">The number of query heads.</param>
    /// <param name="keyValueHeads">The number of key/value heads.</param>
    public int PairedHeads(string gguf, int heads, int keyValueHeads)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        return !PairsRotaryRows ? 0
            : gguf.Contains(".attn_q.", StringComparison.Ordinal) ? heads
            : gguf.Contains(".attn_k.", StringComparison.Ordinal) ? keyValueHeads
            : 0;
    }

    /// <summary>Whether a tensor of GGUF's name is a norm's weight.</summary>
    /// <param name="gguf">The name.</param>
    public static bool IsNorm(string gguf)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        return gguf.EndsWith("_norm.weight", StringComparison.Ordinal);
    }

    /// <summary>Whether a tensor is a router's weight, which llama.cpp needs in float32.</summary>
    /// <param name="gguf">The name.</param>
    public static bool IsRouter(string gguf)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        return gguf.Contains(".ffn_gate_inp", StringComparison.Ordinal);
    }

    /// <summary>Writes the family's keys.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    /// <exception cref="InvalidDataException">GGUF cannot represent the config.</exception>
    public virtual void WriteSettings(ConfigJson config, GgufMetadata metadata) => WriteCommonSettings(config, metadata);

    /// <summary>Writes the keys common to all families.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    /// <param name="longestContext">Maximum context in tokens, if it is less than config.json's.</param>
    /// <exception cref="InvalidDataException">GGUF cannot represent the config.</exception>
    protected void WriteCommonSettings(ConfigJson config, GgufMetadata metadata, int longestContext = int.MaxValue)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        RequireActivation(config);
        void Add(string key, object value) => metadata.Add($"{Architecture}.{key}", value);
        Add("context_length", (uint)Math.Min(longestContext, config.Int("max_position_embeddings", Facts.MaxPositions)));
        Add("embedding_length", (uint)config.Int("hidden_size"));
        Add("block_count", (uint)config.Int("num_hidden_layers"));
        Add("feed_forward_length", (uint)FeedForwardLength(config));
        Add("attention.head_count", (uint)config.Int("num_attention_heads"));
        Add(EpsilonKey, (float)config.Number(Facts.NormEpsilonSetting, Facts.NormEpsilon));
        WriteHeads(config, metadata);
        Add("rope.freq_base", (float)RopeTheta(config));

        RopeScaling.Write(config, metadata, Architecture, config.Int("max_position_embeddings", Facts.MaxPositions));
    }

    /// <summary>Writes the number of key/value heads and the sizes of heads.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    protected virtual void WriteHeads(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(metadata);
        var length = (uint)HeadLength(config);
        metadata.Add($"{Architecture}.attention.head_count_kv", (uint)KeyValueHeads(config));
        metadata.Add($"{Architecture}.attention.key_length", length);
        metadata.Add($"{Architecture}.attention.value_length", length);
        if (Facts.PartialRotation)
        {
            metadata.Add($"{Architecture}.rope.dimension_count", (uint)RotatedLength(config));
        }
    }

    /// <summary>Width of the dense feed-forward blocks.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual int FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("intermediate_size");
    }

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

    /// <summary>Builds a config.json from the family's keys.</summary>
    /// <param name="file">The GGUF file.</param>
    /// <exception cref="InvalidDataException">A key is missing, or cannot be represented in a config.json.</exception>
    public virtual JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var metadata = file.Metadata;
        int Int(string key) => metadata.Int($"{Architecture}.{key}") ?? throw metadata.Error($"{Architecture}.{key}", "this key is missing.");
        var heads = Int("attention.head_count");
        var perLayer = metadata.Find($"{Architecture}.attention.head_count_kv") as Array;
        var config = new JsonObject
        {
            ["architectures"] = new JsonArray(Facts.ClassName),
            ["attention_bias"] = file.Contains("blk.0.attn_q.bias"),
            ["hidden_act"] = Facts.Activation,
            ["head_dim"] = metadata.Int($"{Architecture}.attention.key_length") ?? Int("embedding_length") / heads,
            ["hidden_size"] = Int("embedding_length"),
            ["intermediate_size"] = Int("feed_forward_length"),
            ["max_position_embeddings"] = Int("context_length"),
            ["model_type"] = Facts.ModelType,
            ["num_attention_heads"] = heads,
            ["num_hidden_layers"] = Int("block_count"),
            ["num_key_value_heads"] = perLayer is null ? metadata.Int($"{Architecture}.attention.head_count_kv") ?? heads : heads,
            [Facts.NormEpsilonSetting] = Round(metadata.Number($"{Architecture}.{EpsilonKey}") ?? 1e-5),
            ["rope_theta"] = Round(metadata.Number($"{Architecture}.rope.freq_base") ?? 10000),
            ["rope_scaling"] = RopeScaling.Read(metadata, Architecture, file),
            ["tie_word_embeddings"] = !file.Contains("output.weight"),
            ["vocab_size"] = file.GetTensor("token_embd.weight").Shape[0],
        };
        if (Facts.PartialRotation)
        {
            var headLength = config["head_dim"]!.GetValue<int>();
            config["partial_rotary_factor"] = (double)(metadata.Int($"{Architecture}.rope.dimension_count") ?? headLength) / headLength;
        }

        return config;
    }

    /// <summary>The head dimension.</summary>
    /// <param name="config">The model's config.json.</param>
    public int HeadLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("head_dim", Facts.HeadDimension ?? (config.Int("hidden_size") / config.Int("num_attention_heads")));
    }

    /// <summary>The number of rotated dimensions of a head.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual int RotatedLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var scaling = config.Object("rope_parameters") ?? config.Object("rope_scaling");
        var usual = scaling?.Number("partial_rotary_factor", Facts.RotatedShare) ?? Facts.RotatedShare;
        return (int)(HeadLength(config) * (config.Has("partial_rotary_factor") ? config.Number("partial_rotary_factor") : usual));
    }

    /// <summary>Base of the rotary frequencies.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual double RopeTheta(ConfigJson config) => RopeScaling.Theta(config, Facts.RopeTheta);

    /// <summary>The number of key/value heads.</summary>
    /// <param name="config">The model's config.json.</param>
    public int KeyValueHeads(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("num_key_value_heads", Facts.KeyValueHeads ?? config.Int("num_attention_heads"));
    }

    /// <summary>The number of experts of a layer; 0 where the family has none.</summary>
    /// <param name="config">The model's config.json.</param>
    public virtual int Experts(ConfigJson config) => 0;

    /// <summary>Tensors with the divisors of the rotary frequencies.</summary>
    /// <param name="config">The model's config.json.</param>
    public IReadOnlyList<(string Name, float[] Divisors)> RotaryTensors(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return RopeScaling.Tensors(config, HeadLength(config), Facts.RopeTheta);
    }

    /// <summary>A number stored in single precision, with the digits that it was written with.</summary>
    internal static double Round(double value) =>
        double.Parse(((float)value).ToString(System.Globalization.CultureInfo.InvariantCulture), System.Globalization.CultureInfo.InvariantCulture);

    private string EpsilonKey => HasLayerNorms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";

    // Modules outside of the layers.
    private string? Outer(string name, Func<(string HuggingFace, string Gguf), string> ours, Func<(string HuggingFace, string Gguf), string> theirs)
    {
        foreach (var pair in new[] { ("model.embed_tokens", "token_embd"), (FinalNorm, "output_norm"), ("lm_head", "output") })
        {
            if (name.StartsWith(ours(pair), StringComparison.Ordinal) && name[ours(pair).Length..] is ".weight" or ".bias")
            {
                return theirs(pair) + name[ours(pair).Length..];
            }
        }

        return null;
    }

    private string? Inner(string name, string from, string to, Func<(string HuggingFace, string Gguf), string> ours, Func<(string HuggingFace, string Gguf), string> theirs)
    {
        if (InLayer(name, from) is not { } found)
        {
            return null;
        }

        if (Tensors.FirstOrDefault(t => ours(t) == found.Tail) is { HuggingFace: not null } whole)
        {
            return $"{to}{found.Layer}.{theirs(whole)}";
        }

        var end = found.Tail.LastIndexOf('.');
        return end > 0 && found.Tail[end..] is ".weight" or ".bias" && Modules.FirstOrDefault(m => ours(m) == found.Tail[..end]) is { HuggingFace: not null } module
            ? $"{to}{found.Layer}.{theirs(module)}{found.Tail[end..]}"
            : null;
    }

    // The number of a layer, and the rest of a name.
    private static (int Layer, string Tail)? InLayer(string name, string prefix)
    {
        var dot = name.StartsWith(prefix, StringComparison.Ordinal) ? name.IndexOf('.', prefix.Length) : -1;
        return dot > 0 && int.TryParse(name.AsSpan(prefix.Length, dot - prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var layer) ? (layer, name[(dot + 1)..]) : null;
    }
}
