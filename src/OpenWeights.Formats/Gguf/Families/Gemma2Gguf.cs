using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Gemma 2: norms before and after each part, capped scores, a sliding window in every other layer.</summary>
public class Gemma2Gguf : GemmaGguf
{
    /// <inheritdoc/>
    public override string ModelType => "gemma2";

    /// <inheritdoc/>
    public override string ClassName => "Gemma2ForCausalLM";

    /// <inheritdoc/>
    public override string Architecture => "gemma2";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
    ];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        WriteCommonSettings(config, metadata);
        RequireUsualScale(config);
        metadata.Add($"{Architecture}.attn_logit_softcapping", (float)config.Number("attn_logit_softcapping", 50));
        metadata.Add($"{Architecture}.final_logit_softcapping", (float)config.Number("final_logit_softcapping", 30));
        metadata.Add($"{Architecture}.attention.sliding_window", (uint)config.Int("sliding_window", 4096));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["attn_logit_softcapping"] = file.Metadata.Number("gemma2.attn_logit_softcapping");
        config["final_logit_softcapping"] = file.Metadata.Number("gemma2.final_logit_softcapping");
        config["sliding_window"] = file.Metadata.Int("gemma2.attention.sliding_window") ?? 4096;
        config["query_pre_attn_scalar"] = config["head_dim"]!.DeepClone();
        return config;
    }

    /// <summary>llama.cpp scales queries by the head's width and knows no other scale (but for the 27B models, by their number of layers).</summary>
    internal static void RequireUsualScale(ConfigJson config)
    {
        if (config.Number("query_pre_attn_scalar", HeadLength(config)) != HeadLength(config))
        {
            throw config.Error("query_pre_attn_scalar", $"llama.cpp knows only the head's width here, which is {HeadLength(config)}; the file would mean another model.");
        }
    }
}
