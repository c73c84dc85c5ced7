using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Gemma 2: pre- and post-norms, soft caps, a sliding window in every other layer.</summary>
internal class Gemma2Gguf : GemmaGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Gemma2;

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
        RequireScale(config, layersOf27Billion: 46);
        RequireLayerTypes(config, static layer => layer % 2 == 0);
        foreach (var key in new[] { "attn_logit_softcapping", "final_logit_softcapping", "sliding_window" })
        {
            if (config.IsNull(key))
            {
                throw config.Error(key, "llama.cpp supports no Gemma 2 without it, so the result would differ from the model.");
            }
        }

        metadata.Add($"{Architecture}.attn_logit_softcapping", (float)config.Number("attn_logit_softcapping", Facts.ScoreSoftCap));
        metadata.Add($"{Architecture}.final_logit_softcapping", (float)config.Number("final_logit_softcapping", Facts.LogitSoftCap));
        metadata.Add($"{Architecture}.attention.sliding_window", (uint)config.Int("sliding_window", Facts.SlidingWindow));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        config["attn_logit_softcapping"] = file.Metadata.Number("gemma2.attn_logit_softcapping");
        config["final_logit_softcapping"] = file.Metadata.Number("gemma2.final_logit_softcapping");
        config["sliding_window"] = file.Metadata.Int("gemma2.attention.sliding_window") ?? Facts.SlidingWindow;
        config["query_pre_attn_scalar"] = Scalar(config, layersOf27Billion: 46);
        return config;
    }

    /// <summary>Throws if llama.cpp does not support the scale of the queries.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="layersOf27Billion">The number of layers by which llama.cpp recognizes the 27B model.</param>
    protected void RequireScale(ConfigJson config, int layersOf27Billion)
    {
        ArgumentNullException.ThrowIfNull(config);
        var wanted = Scalar(config.Int("num_hidden_layers"), config.Int("hidden_size"), config.Int("num_attention_heads"), HeadLength(config), layersOf27Billion);
        if (config.Number("query_pre_attn_scalar", Facts.QueryScalar) != wanted)
        {
            throw config.Error("query_pre_attn_scalar", $"llama.cpp assumes {wanted} here, so the result would differ from the model.");
        }
    }

    /// <summary>The scale of the queries that llama.cpp assumes for a model.</summary>
    /// <param name="config">The config.json built from a file's keys.</param>
    /// <param name="layersOf27Billion">As there.</param>
    protected static int Scalar(JsonObject config, int layersOf27Billion)
    {
        ArgumentNullException.ThrowIfNull(config);
        int Int(string key) => config[key]!.GetValue<int>();
        return Scalar(Int("num_hidden_layers"), Int("hidden_size"), Int("num_attention_heads"), Int("head_dim"), layersOf27Billion);
    }

    // The head dimension, except for the 27B models.
    private static int Scalar(int layers, int hidden, int heads, int headLength, int layersOf27Billion) => layers == layersOf27Billion ? hidden / heads : headLength;
}
