using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Gemma 3's text model: norms of queries and keys, two rotary bases, usually five local layers to a global one.</summary>
internal sealed class Gemma3Gguf : Gemma2Gguf
{
    private const int UsualPeriod = 6;
    private const string PeriodKey = "gemma3.attention.sliding_window_pattern";

    /// <inheritdoc/>
    public override bool HasHead => true;

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Gemma3Text;

    /// <inheritdoc/>
    public override string Architecture => "gemma3";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
        [.. base.Modules, ("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        WriteCommonSettings(config, metadata);
        RequireScale(config, layersOf27Billion: 62);
        if (Period(config) is var period and not UsualPeriod)
        {
            metadata.Add(PeriodKey, (uint)period);
        }

        if (config.Has("final_logit_softcapping") || config.Has("attn_logit_softcapping"))
        {
            throw config.Error("final_logit_softcapping", "llama.cpp does not cap Gemma 3's scores.");
        }

        metadata.Add("gemma3.attention.sliding_window", (uint)config.Int("sliding_window", Facts.SlidingWindow));
        metadata.Add("gemma3.rope.freq_base_swa", (float)(config.Object("rope_parameters")?.Object("sliding_attention")?.Number("rope_theta") ?? config.Number("rope_local_base_freq", 10000)));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attn_logit_softcapping");
        _ = config.Remove("final_logit_softcapping");
        config["query_pre_attn_scalar"] = Scalar(config, layersOf27Billion: 62);
        config["sliding_window"] = file.Metadata.Int("gemma3.attention.sliding_window") ?? Facts.SlidingWindow;
        config["sliding_window_pattern"] = Period(file, config["num_hidden_layers"]!.GetValue<int>());
        config["rope_local_base_freq"] = Round(file.Metadata.Number("gemma3.rope.freq_base_swa") ?? 10000);
        return config;
    }

    // How many layers there are to one without a window, which is the last of them.
    private static int Period(ConfigJson config)
    {
        if (config.Texts("layer_types") is not { } types)
        {
            return config.Int("sliding_window_pattern", config.Int("_sliding_window_pattern", UsualPeriod));
        }

        var first = types.ToList().FindIndex(static type => type != "sliding_attention");
        var period = first >= 0 ? first + 1 : Math.Max(UsualPeriod, types.Count + 1);
        RequireLayerTypes(config, layer => (layer + 1) % period != 0);
        return period > types.Count && UsualPeriod > types.Count ? UsualPeriod : period;
    }

    private static int Period(GgufFile file, int layers)
    {
        var slides = LayerPattern.Read(file.Metadata, PeriodKey, layers, UsualPeriod);
        return slides.Contains(false) ? Array.IndexOf(slides, false) + 1 : Math.Max(UsualPeriod, layers + 1);
    }
}
