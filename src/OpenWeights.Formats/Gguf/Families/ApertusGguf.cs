using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Apertus: norms of queries and keys, and a feed-forward without a gate, whose activation's parameters are among the keys.</summary>
internal sealed class ApertusGguf : GgufFamily
{
    private static readonly (string HuggingFace, string Key, long[] Shape)[] s_parameters =
    [
        ("alpha_n", "xielu.alpha_n", [1]), ("alpha_p", "xielu.alpha_p", [1]), ("beta", "xielu.beta", []), ("eps", "xielu.eps", []),
    ];

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Apertus;

    /// <inheritdoc/>
    public override string Architecture => "apertus";

    /// <inheritdoc/>
    public override bool WantsHead => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace is not ("input_layernorm" or "post_attention_layernorm" or "mlp.gate_proj")),
        ("attention_layernorm", "attn_norm"),
        ("feedforward_layernorm", "ffn_norm"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        if (!config.Has("rope_parameters") && !config.Has("rope_scaling") && !config.IsNull("rope_scaling"))
        {
            throw config.Error("rope_scaling", "this setting is missing, and its default is not known to llama.cpp; state it, or null.");
        }
    }

    /// <inheritdoc/>
    public override bool IsSetting(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name.Contains(".mlp.act_fn.", StringComparison.Ordinal);
    }

    /// <inheritdoc/>
    public override void WriteTensorSettings(ConfigJson config, Func<string, IReadOnlyList<float>?> values, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(metadata);
        float Of(int layer, string parameter) => values(NameOf(layer, parameter))?[0]
            ?? throw new InvalidDataException($"{metadata.Location}: the model has no tensor {NameOf(layer, parameter)}; check whether a weight file is missing.");
        foreach (var (parameter, key, _) in s_parameters)
        {
            metadata.Add(key, Enumerable.Range(0, Layers(config)).Select(layer => Of(layer, parameter)).ToArray());
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSettingTensor> SettingTensors(GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(metadata);
        return
        [
            .. s_parameters.SelectMany(p => (metadata.List<float>(p.Key) ?? throw metadata.Error(p.Key, "this key is missing."))
                .Select((value, layer) => new GgufSettingTensor(NameOf(layer, p.HuggingFace), p.Shape, [value]))),
        ];
    }

    private static string NameOf(int layer, string parameter) => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"model.layers.{layer}.mlp.act_fn.{parameter}");
}
