using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// How one family of models is represented in GGUF: names, settings, and transformations of weights
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py"/>). Converts in both directions.
/// </summary>
internal abstract partial class GgufFamily
{
    private static readonly string[] s_float32 = [".ssm_conv1d.weight", ".ssm_conv1d_q.weight", ".ssm_conv1d_k.weight", ".ssm_conv1d_v.weight", ".shortconv.conv.weight", ".ssm_a", ".ssm_d"];

    private readonly GgufNames _names;

    /// <summary>A family.</summary>
    protected GgufFamily() => _names = new GgufNames(this);

    /// <summary>Names of the family and defaults of its settings.</summary>
    public abstract FamilyFacts Facts { get; }

    /// <summary>GGUF's general.architecture.</summary>
    public abstract string Architecture { get; }

    /// <summary>
    /// Whether rows of query and key projections are permuted from split-half to interleaved rotary layout, as llama.cpp expects.
    /// </summary>
    public virtual bool PairsRotaryRows => false;

    /// <summary>Modules, by their names in GGUF, to which llama.cpp applies no LoRA file: it ends with an error, or takes no notice.</summary>
    public virtual IReadOnlyList<string> ModulesWithoutLora => [];

    /// <summary>Name of the final norm in Hugging Face's checkpoints.</summary>
    public virtual string FinalNorm => "model.norm";

    /// <summary>Name of the token embedding in Hugging Face's checkpoints.</summary>
    protected virtual string Embedding => "model.embed_tokens";

    /// <summary>Name of the output head in Hugging Face's checkpoints.</summary>
    protected virtual string Head => "lm_head";

    /// <summary>What the names of the layers' tensors begin with in Hugging Face's checkpoints.</summary>
    protected virtual string LayerPrefix => "model.layers.";

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

    /// <summary>A layer's tensors that GGUF divides, or has with their dimensions in another order.</summary>
    public virtual IReadOnlyList<GgufSplit> Splits => [];

    /// <summary>How GGUF divides a checkpoint's tensor; null if it does not.</summary>
    /// <param name="name">Hugging Face's name.</param>
    /// <returns>The rule, and the names of GGUF's tensors.</returns>
    public (GgufSplit Split, IReadOnlyList<string> Names)? SplitOf(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return GgufNames.TryLayer(name, LayerPrefix, out var layer, out var tail) && Splits.FirstOrDefault(s => s.Name == tail) is { } split
            ? (split, [.. split.Pieces.Select(piece => $"{GgufNames.BlockPrefix}{layer}.{piece}")])
            : null;
    }

    /// <summary>The checkpoint's tensor of which GGUF's is a piece; null if it is none.</summary>
    /// <param name="gguf">GGUF's name.</param>
    public (GgufSplit Split, string Name)? PieceOf(string gguf)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        return GgufNames.TryLayer(gguf, GgufNames.BlockPrefix, out var layer, out var tail) && Splits.FirstOrDefault(s => s.Pieces.Contains(tail)) is { } split
            ? (split, $"{LayerPrefix}{layer}.{split.Name}")
            : null;
    }

    /// <summary>A layer's tensors that are neither weight nor bias of a module on both sides, by their whole names there.</summary>
    public virtual IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [];

    /// <summary>The modules outside of the layers.</summary>
    public virtual IReadOnlyList<(string HuggingFace, string Gguf)> OuterModules => [(Embedding, "token_embd"), (FinalNorm, "output_norm"), (Head, "output")];

    /// <summary>Tensors outside of the layers that are neither weight nor bias of a module on both sides, by their whole names there.</summary>
    public virtual IReadOnlyList<(string HuggingFace, string Gguf)> OuterTensors => [];

    internal string LayerNamePrefix => LayerPrefix;

    /// <summary>The places in GGUF of a checkpoint's tensor, several if llama.cpp has its parts in tensors of their own.</summary>
    /// <param name="name">Hugging Face's name.</param>
    public IReadOnlyList<GgufPlace> Places(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return [.. _names.ToGguf(name)];
    }

    /// <summary>Finds the place in GGUF of a checkpoint's tensor.</summary>
    /// <param name="name">Hugging Face's name.</param>
    /// <param name="place">The place, the first if there are several.</param>
    public bool TryToGguf(string name, out GgufPlace place)
    {
        var places = Places(name);
        place = places.Count > 0 ? places[0] : default;
        return places.Count > 0;
    }

    /// <summary>The checkpoint's name of a tensor in GGUF, with a * for the number if it contains several matrices.</summary>
    /// <param name="name">GGUF's name.</param>
    /// <param name="huggingFace">Hugging Face's name, if there is one.</param>
    public bool TryToHuggingFace(string name, [NotNullWhen(true)] out string? huggingFace)
    {
        ArgumentNullException.ThrowIfNull(name);
        huggingFace = _names.ToHuggingFace(name);
        return huggingFace is not null;
    }

    /// <summary>How a tensor of a file follows from the checkpoint's.</summary>
    /// <param name="gguf">GGUF's name.</param>
    /// <param name="config">The model's config.json.</param>
    public virtual GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        ArgumentNullException.ThrowIfNull(config);
        var heads = !PairsRotaryRows ? 0
            : gguf.Contains(".attn_q.", StringComparison.Ordinal) ? config.Int("num_attention_heads")
            : gguf.Contains(".attn_k.", StringComparison.Ordinal) ? KeyValueHeads(config)
            : 0;
        return heads > 0 ? new GgufForm { Rows = GgufForm.PairedRows(heads, HeadLength(config)) }
            : NormOffset != 0 && IsNorm(gguf) ? new GgufForm { Offset = NormOffset }
            : IsRouter(gguf) && gguf.EndsWith(".weight", StringComparison.Ordinal) ? new GgufForm { Shape = GgufShape.Router }
            : GgufForm.Same;
    }

    /// <summary>Whether a model has a tensor that other models of the family may have.</summary>
    /// <param name="gguf">GGUF's name.</param>
    /// <param name="config">The model's config.json.</param>
    public virtual bool Has(string gguf, ConfigJson config) => true;

    /// <summary>Tensors that llama.cpp requires but does not use; they are zero where the checkpoint has none.</summary>
    /// <param name="config">The model's config.json.</param>
    public virtual IReadOnlyList<(string Name, IReadOnlyList<long> Shape)> UnusedTensors(ConfigJson config) => [];

    /// <summary>Whether a checkpoint's tensor is among the file's settings, and not its tensors.</summary>
    /// <param name="name">Hugging Face's name.</param>
    public virtual bool IsSetting(string name) => false;

    /// <summary>Writes the keys that hold values of the checkpoint's tensors.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="values">Reads a tensor; null if there is none of the name.</param>
    /// <param name="metadata">Destination.</param>
    public virtual void WriteTensorSettings(ConfigJson config, Func<string, IReadOnlyList<float>?> values, GgufMetadata metadata)
    {
    }

    /// <summary>The checkpoint's tensors whose values are among the file's settings.</summary>
    /// <param name="metadata">The file's keys.</param>
    public virtual IReadOnlyList<GgufSettingTensor> SettingTensors(GgufMetadata metadata) => [];

    /// <summary>Whether a file with the family's architecture is of this family, if several share it.</summary>
    /// <param name="file">The file.</param>
    public virtual bool IsOf(GgufFile file) => true;

    /// <summary>Whether llama.cpp's quantizer treats a model as a 70B model, and uses more bits for the attention values.</summary>
    /// <param name="config">The model's config.json.</param>
    public virtual bool IsOf70Billion(ConfigJson config) => false;

    /// <summary>Whether a tensor of GGUF's name is a norm's weight.</summary>
    /// <param name="gguf">The name.</param>
    public static bool IsNorm(string gguf)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        return gguf.EndsWith("_norm.weight", StringComparison.Ordinal);
    }

    /// <summary>Whether llama.cpp computes with a tensor only in float32: convolutions and states' decays.</summary>
    /// <param name="gguf">The name.</param>
    public static bool IsFloat32(string gguf)
    {
        ArgumentNullException.ThrowIfNull(gguf);
        return IsNorm(gguf) || IsRouter(gguf) || Array.Exists(s_float32, part => gguf.EndsWith(part, StringComparison.Ordinal));
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
        Add("context_length", (uint)Math.Min(longestContext, MaxPositions(config)));
        Add("embedding_length", (uint)config.Int("hidden_size"));
        Add("block_count", (uint)Layers(config));
        Add("feed_forward_length", FeedForwardLength(config));
        Add("attention.head_count", (uint)config.Int("num_attention_heads"));
        Add("attention.head_count_kv", KeyValueHeadCount(config));
        Add(EpsilonKey, (float)NormEpsilon(config));
        Add("attention.key_length", (uint)KeyLength(config));
        Add("attention.value_length", (uint)ValueLength(config));
        Add("rope.freq_base", (float)RopeTheta(config));
        if (RotatesPart)
        {
            Add("rope.dimension_count", (uint)RotatedLength(config));
        }

        WriteRotation(config, metadata);
    }

    /// <summary>Writes the keys of rotary scaling.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    protected virtual void WriteRotation(ConfigJson config, GgufMetadata metadata) => RopeScaling.Write(config, metadata, Architecture, MaxPositions(config));

    /// <summary>Value of the key feed_forward_length, an array where layers differ.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (uint)config.Int("intermediate_size");
    }

    /// <summary>Value of the key attention.head_count_kv, an array where layers differ.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual object KeyValueHeadCount(ConfigJson config) => (uint)KeyValueHeads(config);

    /// <summary>Builds a config.json from the family's keys.</summary>
    /// <param name="file">The GGUF file.</param>
    /// <exception cref="InvalidDataException">A key is missing, or cannot be represented in a config.json.</exception>
    public virtual JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var metadata = file.Metadata;
        int Int(string key) => metadata.Int($"{Architecture}.{key}") ?? throw metadata.Error($"{Architecture}.{key}", "this key is missing.");
        int Largest(string key) => metadata.Ints($"{Architecture}.{key}")?.Max() ?? throw metadata.Error($"{Architecture}.{key}", "this key is missing.");
        var heads = Largest("attention.head_count");
        var config = new JsonObject
        {
            ["architectures"] = new JsonArray(Facts.ClassName),
            ["attention_bias"] = file.Tensors.Any(static t => t.Name.EndsWith(".attn_q.bias", StringComparison.Ordinal)),
            ["hidden_act"] = Facts.Activation,
            ["head_dim"] = metadata.Int($"{Architecture}.attention.key_length") ?? Int("embedding_length") / heads,
            ["hidden_size"] = Int("embedding_length"),
            ["intermediate_size"] = Largest("feed_forward_length"),
            ["max_position_embeddings"] = Int("context_length"),
            ["model_type"] = Facts.ModelType,
            ["num_attention_heads"] = heads,
            ["num_hidden_layers"] = Int("block_count") - PredictionLayers(file),
            ["num_key_value_heads"] = metadata.Ints($"{Architecture}.attention.head_count_kv")?.Max() ?? heads,
            [Facts.NormEpsilonSetting] = Round(metadata.Number($"{Architecture}.{EpsilonKey}") ?? 1e-5),
            ["rope_theta"] = Round(metadata.Number($"{Architecture}.rope.freq_base") ?? 10000),
            ["rope_scaling"] = ReadRotation(file),
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

    /// <summary>The number of layers behind the last that predict further tokens, which are not read.</summary>
    /// <param name="file">The GGUF file.</param>
    internal int PredictionLayers(GgufFile file) => file.Metadata.Int($"{Architecture}.nextn_predict_layers") ?? 0;

    /// <summary>The head dimension.</summary>
    /// <param name="config">The model's config.json.</param>
    public int HeadLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("head_dim", Facts.HeadDimension ?? (config.Int("hidden_size") / config.Int("num_attention_heads")));
    }

    /// <summary>The epsilon of the norms.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual double NormEpsilon(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Number(Facts.NormEpsilonSetting, Facts.NormEpsilon);
    }

    /// <summary>Length of a head's keys.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual int KeyLength(ConfigJson config) => HeadLength(config);

    /// <summary>Length of a head's values.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual int ValueLength(ConfigJson config) => HeadLength(config);

    /// <summary>Whether only a part of a head may be rotated.</summary>
    protected virtual bool RotatesPart => Facts.PartialRotation;

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

    /// <summary>The longest context.</summary>
    /// <param name="config">The model's config.json.</param>
    protected virtual int MaxPositions(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("max_position_embeddings", Facts.MaxPositions);
    }

    /// <summary>The number of layers.</summary>
    /// <param name="config">The model's config.json.</param>
    public virtual int Layers(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("num_hidden_layers");
    }

    /// <summary>The number of experts of a layer; 0 where the family has none. Unless a family says otherwise it is num_experts or num_local_experts.</summary>
    /// <param name="config">The model's config.json.</param>
    public virtual int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Facts.Experts is null ? 0 : MixtureKeys.Count(config, Facts);
    }

    /// <summary>The rope_scaling for a file's keys; null for none.</summary>
    /// <param name="file">The GGUF file.</param>
    protected virtual JsonObject? ReadRotation(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return RopeScaling.Read(file.Metadata, Architecture, file);
    }

    /// <summary>Tensors with the divisors of the rotary frequencies.</summary>
    /// <param name="config">The model's config.json.</param>
    public virtual IReadOnlyList<(string Name, float[] Divisors)> RotaryTensors(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return RopeScaling.Tensors(config, HeadLength(config), Facts.RopeTheta);
    }

    /// <summary>A number stored in single precision, with the digits that it was written with.</summary>
    internal static double Round(double value) =>
        double.Parse(((float)value).ToString(System.Globalization.CultureInfo.InvariantCulture), System.Globalization.CultureInfo.InvariantCulture);

    private string EpsilonKey => HasLayerNorms ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
}
