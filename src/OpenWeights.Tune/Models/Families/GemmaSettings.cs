using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Settings common to the Gemma families.</summary>
internal static class GemmaSettings
{
    /// <summary>Norms that add one to their weight, and embeddings scaled by sqrt(hidden_size).</summary>
    internal static DecoderConfig AsGemma(this DecoderConfig decoder, ConfigReader config)
    {
        // The first configs said gelu but meant the approximation. hidden_activation, added later, takes precedence over hidden_act.
        var older = config.Text("hidden_act");
        config.Require(
            "hidden_act", config.Has("hidden_activation") || older is null or "gelu" or "gelu_pytorch_tanh", $"activation '{older}' is not supported for this family; supported is gelu_pytorch_tanh.");
        return decoder with
        {
            Norm = new RmsNormSettings(decoder.NormEpsilon, AddsOne: true, ScalesBeforeRounding: true),
            EmbeddingMultiplier = Math.Sqrt(decoder.HiddenSize),
            RoundsEmbeddingMultiplier = true,
        };
    }

    /// <summary>Pre- and post-norms, and scaling and soft caps of scores and logits (Gemma 2 and 3).</summary>
    internal static DecoderConfig WithGemmaScores(this DecoderConfig decoder, ConfigReader config, FamilyFacts facts)
    {
        var scalar = config.OptionalNumber("query_pre_attn_scalar", facts.QueryScalar) ?? throw config.Error("query_pre_attn_scalar", "a number is expected, not null.");
        return decoder with
        {
            NormPlacement = NormPlacement.BeforeAndAfter,
            ScoreMultiplier = 1 / Math.Sqrt(scalar),
            ScoreSoftCap = config.OptionalNumber("attn_logit_softcapping", facts.ScoreSoftCap),
            LogitSoftCap = config.OptionalNumber("final_logit_softcapping", facts.LogitSoftCap),
        };
    }

    /// <summary>The config.json of a new model.</summary>
    internal static JsonObject NewConfig(IModelFamily family, ModelShape shape, params ReadOnlySpan<(string Key, JsonNode? Value)> more)
    {
        ArgumentNullException.ThrowIfNull(shape);
        return CommonSettings.NewConfig(family, shape, [("attention_bias", false), .. more]);
    }
}
