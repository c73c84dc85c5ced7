using NUnit.Framework;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>What a config.json leaves to its family is the same to the model that runs and to the GGUF file that is written of it.</summary>
public sealed class GgufDefaultTests
{
    [Test]
    public void A_setting_that_a_config_does_not_have_is_the_same_in_both(
        [Values("llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "phi3", "granite", "olmo2", "smollm3")] string family)
    {
        // 64 heads: every family's own number of key/value heads divides them.
        var shape = new ModelShape { HiddenSize = 64 * 32, IntermediateSize = 64, Layers = 2, Heads = 64, KeyValueHeads = 64, VocabularySize = 100 };
        var settings = FamilyRegistry.Find(family, "config.json").NewConfig(shape);
        foreach (var key in new[] { "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_parameters", "tie_word_embeddings" })
        {
            _ = settings.Remove(key);
        }

        var config = FamilyRegistry.Read(settings, "config.json");
        var written = GgufFamilies.OfModelType(family, "config.json").Defaults;
        Assert.Multiple(() =>
        {
            Assert.That(written.KeyValueHeads ?? config.HeadCount, Is.EqualTo(config.KeyValueHeadCount));
            Assert.That(written.HeadLength ?? (config.HiddenSize / config.HeadCount), Is.EqualTo(config.HeadDimension));
            Assert.That(written.MaxPositions, Is.EqualTo(config.MaxPositions));
            Assert.That(written.NormEpsilon, Is.EqualTo(config.NormEpsilon));
            Assert.That(written.TiedEmbeddings, Is.EqualTo(config.TiedEmbeddings));
            Assert.That(config.Rope is null ? written.RopeTheta : config.Rope.Theta, Is.EqualTo(written.RopeTheta));
        });
    }
}
