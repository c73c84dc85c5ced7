using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>
/// YaRN's factor of cosines and sines, and the factor of the scores that DeepSeek's latent attention has in addition (mscale_all_dim). llama.cpp
/// computes the former from the scaling factor, unless the file says by what to multiply it; its latent attention multiplies the scores
/// by the square of that factor and of another (yarn_log_multiplier).
/// </summary>
internal static class YarnFactors
{
    // llama.cpp's files have a tenth of the multiplier.
    private const double Tenth = 0.1;
    private const double Close = 1e-6;

    /// <summary>Writes the keys for what a rule says.</summary>
    /// <param name="scaling">The rule.</param>
    /// <param name="factor">Its scaling factor.</param>
    /// <param name="architecture">GGUF's general.architecture.</param>
    /// <param name="metadata">Destination.</param>
    internal static void Write(ConfigJson scaling, double factor, string architecture, GgufMetadata metadata)
    {
        var (scale, all) = (scaling.Number("mscale", 0), scaling.Number("mscale_all_dim", 0));
        var rotation = scaling.Number("attention_factor", scale != 0 && all != 0 ? Of(factor, scale) / Of(factor, all) : Of(factor, 1));
        var usual = Of(factor, 1);
        if (IsLatent(architecture))
        {
            // Scores are to be multiplied by the square of what mscale_all_dim gives, however much of that is in the rotation.
            var multiplier = factor > 1 ? ((Of(factor, all) / rotation) - 1) / (Tenth * Math.Log(factor)) : 0;
            multiplier = Math.Abs(multiplier) < Close ? 0 : multiplier;
            usual = Usual(factor, multiplier, architecture);
            metadata.Add($"{architecture}.rope.scaling.yarn_log_multiplier", (float)(Tenth * multiplier));
        }

        if (Math.Abs(rotation - usual) > Close * usual)
        {
            metadata.Add($"{architecture}.rope.scaling.attn_factor", (float)(rotation / usual));
        }
    }

    /// <summary>Adds what a file's keys say to a rule.</summary>
    /// <param name="metadata">The file's keys.</param>
    /// <param name="key">The beginning of the keys.</param>
    /// <param name="architecture">GGUF's general.architecture.</param>
    /// <param name="rule">The rule, which has its factor.</param>
    internal static void Read(GgufMetadata metadata, string key, string architecture, JsonObject rule)
    {
        var factor = metadata.Number($"{key}.factor") ?? 1;
        var multiplier = IsLatent(architecture) ? GgufFamily.Round(metadata.Number($"{key}.yarn_log_multiplier") ?? 0) / Tenth : 0;
        var rotation = (metadata.Number($"{key}.attn_factor") ?? 1) * Usual(factor, multiplier, architecture);
        if (IsLatent(architecture) && factor > 1)
        {
            // DeepSeek's own files state the multiplier of a rotation by 1.
            var all = Math.Abs(rotation - 1) < Close ? multiplier : ((rotation * Of(factor, multiplier)) - 1) / (Tenth * Math.Log(factor));
            rule["attention_factor"] = rotation;
            rule["mscale_all_dim"] = all;
        }
        else if (metadata.Contains($"{key}.attn_factor"))
        {
            rule["attention_factor"] = rotation;
        }
    }

    // The factor of cosines and sines that llama.cpp takes by itself. Only its architecture deepseek2 knows that mscale is mscale_all_dim.
    private static double Usual(double factor, double multiplier, string architecture) =>
        multiplier == 0 ? Of(factor, 1)
        : architecture == "deepseek2" ? 1
        : Of(factor, 1) / Of(factor, multiplier);

    private static bool IsLatent(string architecture) => architecture is "deepseek2" or "mistral4";

    // transformers' get_mscale.
    private static double Of(double factor, double weight) => factor <= 1 ? 1 : (Tenth * weight * Math.Log(factor)) + 1;
}
