using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// How one family of models is said in GGUF: names, settings, and what is done to weights
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py"/>). Works both ways.
/// </summary>
public abstract class GgufFamily
{
    private const string LayerPrefix = "model.layers.";
    private const string BlockPrefix = "blk.";

    private static readonly (string HuggingFace, string Gguf)[] Outer =
        [("model.embed_tokens.weight", "token_embd.weight"), ("model.norm.weight", "output_norm.weight"), ("lm_head.weight", "output.weight")];

    /// <summary>Hugging Face's model_type.</summary>
    public abstract string ModelType { get; }

    /// <summary>Hugging Face's class, for a config.json's architectures.</summary>
    public abstract string ClassName { get; }

    /// <summary>GGUF's general.architecture.</summary>
    public abstract string Architecture { get; }

    /// <summary>Whether the rows of query and key projections go from halves to adjacent pairs, as llama.cpp rotates them.</summary>
    public virtual bool PairsRotaryRows => false;

    /// <summary>What is added to every norm's weight.</summary>
    public virtual float NormOffset => 0;

    /// <summary>The activation of the feed-forward, as config.json names it.</summary>
    public virtual string Activation => "silu";

    /// <summary>Whether the output head is the embedding where config.json does not say.</summary>
    public virtual bool TiedByDefault => false;

    /// <summary>Whether the output head can be another weight than the embedding.</summary>
    public virtual bool HasHead => true;

    /// <summary>A layer's modules, by Hugging Face's and GGUF's names.</summary>
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

    /// <summary>The name in GGUF of a checkpoint's tensor.</summary>
    /// <param name="name">Hugging Face's name.</param>
    /// <param name="gguf">GGUF's, where there is one.</param>
    public bool TryToGguf(string name, [NotNullWhen(true)] out string? gguf)
    {
        ArgumentNullException.ThrowIfNull(name);
        gguf = Outer.FirstOrDefault(pair => pair.HuggingFace == name).Gguf ?? Inner(name, LayerPrefix, BlockPrefix, static m => m.HuggingFace, static m => m.Gguf);
        return gguf is not null;
    }

    /// <summary>The checkpoint's name of a tensor in GGUF.</summary>
    /// <param name="name">GGUF's name.</param>
    /// <param name="huggingFace">Hugging Face's, where there is one.</param>
    public bool TryToHuggingFace(string name, [NotNullWhen(true)] out string? huggingFace)
    {
        ArgumentNullException.ThrowIfNull(name);
        huggingFace = Outer.FirstOrDefault(pair => pair.Gguf == name).HuggingFace ?? Inner(name, BlockPrefix, LayerPrefix, static m => m.Gguf, static m => m.HuggingFace);
        return huggingFace is not null;
    }

    /// <summary>The number of heads whose rows are paired in a tensor of GGUF's name; 0 where rows stay as they are.</summary>
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

    /// <summary>Writes the family's keys.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Where to write.</param>
    /// <exception cref="InvalidDataException">GGUF cannot say what the config asks for.</exception>
    public virtual void WriteSettings(ConfigJson config, GgufMetadata metadata) => WriteCommonSettings(config, metadata);

    /// <summary>Writes the keys that all families have.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Where to write.</param>
    protected void WriteCommonSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        void Add(string key, object value) => metadata.Add($"{Architecture}.{key}", value);
        var heads = config.Int("num_attention_heads");
        var headLength = HeadLength(config);
        Add("context_length", (uint)config.Int("max_position_embeddings", 2048));
        Add("embedding_length", (uint)config.Int("hidden_size"));
        Add("block_count", (uint)config.Int("num_hidden_layers"));
        Add("feed_forward_length", (uint)config.Int("intermediate_size"));
        Add("attention.head_count", (uint)heads);
        Add("attention.head_count_kv", (uint)config.Int("num_key_value_heads", heads));
        Add("attention.layer_norm_rms_epsilon", (float)config.Number("rms_norm_eps", 1e-6));
        Add("attention.key_length", (uint)headLength);
        Add("attention.value_length", (uint)headLength);
        Add("rope.freq_base", (float)RopeScaling.Theta(config));
        RopeScaling.Write(config, metadata, Architecture);
    }

    /// <summary>Makes a config.json of the family's keys.</summary>
    /// <param name="file">The GGUF file.</param>
    /// <exception cref="InvalidDataException">A key is missing or asks for what cannot be said in a config.json.</exception>
    public virtual JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var metadata = file.Metadata;
        int Int(string key) => metadata.Int($"{Architecture}.{key}") ?? throw metadata.Error($"{Architecture}.{key}", "this key is missing.");
        var heads = Int("attention.head_count");
        var config = new JsonObject
        {
            ["architectures"] = new JsonArray(ClassName),
            ["attention_bias"] = file.Contains("blk.0.attn_q.bias"),
            ["hidden_act"] = Activation,
            ["head_dim"] = metadata.Int($"{Architecture}.attention.key_length") ?? Int("embedding_length") / heads,
            ["hidden_size"] = Int("embedding_length"),
            ["intermediate_size"] = Int("feed_forward_length"),
            ["max_position_embeddings"] = Int("context_length"),
            ["model_type"] = ModelType,
            ["num_attention_heads"] = heads,
            ["num_hidden_layers"] = Int("block_count"),
            ["num_key_value_heads"] = metadata.Int($"{Architecture}.attention.head_count_kv") ?? heads,
            ["rms_norm_eps"] = Round(metadata.Number($"{Architecture}.attention.layer_norm_rms_epsilon") ?? 1e-5),
            ["rope_theta"] = Round(metadata.Number($"{Architecture}.rope.freq_base") ?? 10000),
            ["rope_scaling"] = RopeScaling.Read(metadata, Architecture, file),
            ["tie_word_embeddings"] = !file.Contains("output.weight"),
            ["vocab_size"] = file.GetTensor("token_embd.weight").Shape[0],
        };
        return config;
    }

    /// <summary>The width of a head.</summary>
    /// <param name="config">The model's config.json.</param>
    public static int HeadLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("head_dim", config.Int("hidden_size") / config.Int("num_attention_heads"));
    }

    /// <summary>A number that was stored in single precision, as short as it was written.</summary>
    protected static double Round(double value) =>
        double.Parse(((float)value).ToString(System.Globalization.CultureInfo.InvariantCulture), System.Globalization.CultureInfo.InvariantCulture);

    private string? Inner(string name, string from, string to, Func<(string HuggingFace, string Gguf), string> ours, Func<(string HuggingFace, string Gguf), string> theirs)
    {
        var dot = name.StartsWith(from, StringComparison.Ordinal) ? name.IndexOf('.', from.Length) : -1;
        var end = name.LastIndexOf('.');
        if (dot < 0 || end <= dot || !int.TryParse(name.AsSpan(from.Length, dot - from.Length), out var layer) || name[end..] is not (".weight" or ".bias"))
        {
            return null;
        }

        var module = name[(dot + 1)..end];
        return Modules.FirstOrDefault(m => ours(m) == module) is { HuggingFace: not null } found ? $"{to}{layer}.{theirs(found)}{name[end..]}" : null;
    }
}
