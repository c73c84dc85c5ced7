using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Hunyuan's dense models: norms of queries and keys after the rotary embedding.</summary>
internal class HunYuanDenseGguf : GgufFamily
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.HunYuanDense;

    /// <inheritdoc/>
    public override string Architecture => "hunyuan-dense";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules,
        ("self_attn.query_layernorm", "attn_q_norm"),
        ("self_attn.key_layernorm", "attn_k_norm"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_bias");
    }

    // Dynamic scaling with alpha is the same as a larger base.
    /// <inheritdoc/>
    protected override double RopeTheta(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (theta, width) = (base.RopeTheta(config), (double)HeadLength(config));
        var scaling = config.Object("rope_parameters") ?? config.Object("rope_scaling");
        return scaling?.Has("alpha") == true ? theta * Math.Pow(scaling.Number("alpha"), width / (width - 2)) : theta;
    }
}
