using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>What transformers 5 writes into config.json, and what is refused of it.</summary>
public sealed class Transformers5ConfigTests
{
    private static readonly string[] s_windowed = ["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"];

    private static readonly string[] s_packed =
        ["{\"quant_method\": \"hqq\"}", "{\"quant_method\": \"aqlm\"}", "{\"quant_method\": \"quanto\"}", "{\"quant_method\": \"torchao\"}"];

    [Test]
    public void The_original_length_may_stand_beside_and_inside_the_rotary_settings()
    {
        var both = Read(Phi3(LongRope(16), beside: 16));
        Assert.That((both.Rope.OriginalMaxPositions, both.Rope.Factor), Is.EqualTo((16.0, 8.0)));
        var differing = Read(Phi3(LongRope(32), beside: 16));
        Assert.That(differing.Rope.OriginalMaxPositions, Is.EqualTo(16), "the outer one counts, as in transformers");
    }

    [Test]
    public void The_inner_original_length_alone_is_refused_where_transformers_would_not_see_it()
    {
        Assert.That(() => Read(Phi3(LongRope(16), beside: null)), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("original_max_position_embeddings").And.Message.Contains("4096"));
        Assert.That(Read(Phi3(LongRope(4096), beside: null)).Rope.OriginalMaxPositions, Is.EqualTo(4096));
        var llama = Config("llama");
        llama["rope_parameters"] = LongRope(16);
        Assert.That(Read(llama).Rope.OriginalMaxPositions, Is.EqualTo(16), "a family without a default of its own reads the inner one");
    }

    [Test]
    public void A_longrope_factor_counts_before_the_ratio_in_transformers_5s_form_and_not_in_the_older_one()
    {
        var rope = LongRope(16);
        rope["factor"] = 4.0;
        Assert.That(Read(Phi3(rope, beside: 16)).Rope.Factor, Is.EqualTo(4));
        var older = Phi3(rope, beside: 16);
        older["rope_scaling"] = older["rope_parameters"]!.DeepClone();
        _ = older.Remove("rope_parameters");
        Assert.That(Read(older).Rope.Factor, Is.EqualTo(8));
    }

    [TestCaseSource(nameof(s_windowed))]
    public void The_size_of_a_window_that_is_not_used_means_nothing(string family)
    {
        var config = Config(family);
        config["use_sliding_window"] = false;
        config["sliding_window"] = 0;
        Assert.That(Enumerable.Range(0, 2).Select(i => Read(config).Layer(i).SlidingWindow), Is.All.Null);
        config["use_sliding_window"] = true;
        Assert.That(() => Read(config), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("sliding_window"));
    }

    [TestCaseSource(nameof(s_packed))]
    public void A_checkpoint_that_is_quantised_in_another_way_is_refused_by_the_name_of_its_method(string settings)
    {
        var config = Config("llama");
        config["quantization_config"] = JsonNode.Parse(settings);
        var method = config["quantization_config"]!["quant_method"]!.ToString();
        Assert.That(() => Read(config), Throws.InstanceOf<InvalidDataException>().With.Message.Contains($"quantized by {method}").And.Message.Contains("type: nf4").And.Message.Not.Contains("remove"));
        config["quantization_config"] = null;
        Assert.That(() => Read(config), Throws.Nothing);
    }

    [Test]
    public void A_setting_that_is_not_known_is_refused_without_advice_that_would_change_the_model()
    {
        var config = Config("llama");
        config["score_bend"] = 0.5;
        Assert.That(() => Read(config), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("score_bend (0.5)").And.Message.Not.Contains("remove"));
    }

    [Test]
    public void A_rotary_setting_of_the_wrong_type_is_told_by_its_name()
    {
        var config = Config("llama");
        config["rope_scaling"] = new JsonObject { ["rope_type"] = "yarn", ["factor"] = 2.0, ["truncate"] = "no" };
        Assert.That(() => Read(config), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("truncate").And.Message.Contains("config.json"));
    }

    private static DecoderConfig Read(JsonObject config) => FamilyRegistry.Read(config, "config.json");

    private static JsonObject Config(string family)
    {
        var shape = new ModelShape { HiddenSize = 32, IntermediateSize = 48, Layers = 2, Heads = 4, KeyValueHeads = 2, VocabularySize = 64, MaxPositions = 128 };
        return FamilyRegistry.Find(family, "config.json").NewConfig(shape);
    }

    private static JsonObject Phi3(JsonObject rope, int? beside)
    {
        var config = Config("phi3");
        _ = config.Remove("rope_scaling");
        _ = config.Remove("original_max_position_embeddings");
        if (beside is { } length)
        {
            config["original_max_position_embeddings"] = length;
        }

        config["rope_parameters"] = rope.DeepClone();
        return config;
    }

    private static JsonObject LongRope(int original)
    {
        JsonArray Four(double first) => [first, first + 0.1, first + 0.2, first + 0.3];
        return new JsonObject
        {
            ["rope_type"] = "longrope",
            ["type"] = "longrope",
            ["rope_theta"] = 10000.0,
            ["partial_rotary_factor"] = 1.0,
            ["original_max_position_embeddings"] = original,
            ["short_factor"] = Four(1),
            ["long_factor"] = Four(2),
        };
    }
}
