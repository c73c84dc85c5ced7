using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Layers.Rope;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>Phi-3.5-MoE's LongRoPE, whose factors of cosines and sines stand in the config, one for short and one for long texts.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class PhiMoeLongRopeTests
{
    private const int Original = 8;
    private static readonly double[] s_short = [1, 1.2];
    private static readonly double[] s_long = [1, 3];

    [TestCase(8)]
    [TestCase(9)]
    [TestCase(20)]
    public void Cosines_and_sines_are_those_of_the_definition(int tokens)
    {
        using var scope = NewDisposeScope();
        var rope = FamilyRegistry.Read(FamilyCases.Config("phimoe_longrope"), "config.json").Rope;
        var (cos, sin) = new RotaryEmbedding(rope, 4).Tables(arange(tokens, int64).view(1, -1), tokens, null, float32);
        Compare(cos, sin, [.. Enumerable.Range(0, tokens).Select(position => (position, tokens))]);
    }

    [Test]
    public void Each_text_of_a_batch_has_the_factors_of_its_own_length()
    {
        using var scope = NewDisposeScope();
        var rope = FamilyRegistry.Read(FamilyCases.Config("phimoe_longrope"), "config.json").Rope;
        (int Position, int Length)[] texts = [.. Enumerable.Range(0, 12).Select(static i => (i, 12)), .. Enumerable.Range(0, 5).Select(static i => (i, 5))];
        var positions = tensor(Array.ConvertAll(texts, static t => (long)t.Position), [1, texts.Length]);
        var (cos, sin) = new RotaryEmbedding(rope, 4).Tables(positions, 12, [.. texts.Select(static t => (long)t.Length)], float32);
        Compare(cos, sin, texts);
    }

    // Scores have the square of the factor, as they have if queries are multiplied by it.
    [TestCase(Original, 1.1)]
    [TestCase(20, 1.3)]
    public void Logits_are_those_of_a_model_whose_queries_are_multiplied_by_the_square_of_the_factor(int tokens, double factor)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var scaled = Model(static rope => (rope["short_factor"], rope["long_factor"]) = (new JsonArray(1.0, 1.0), new JsonArray(1.0, 1.0)));
        using var plain = Model(null);
        foreach (var (_, weight) in plain.StoredTensors.Where(static t => t.Name.Contains("q_proj", StringComparison.Ordinal)))
        {
            using Scalar square = factor * factor;
            _ = weight.mul_(square);
        }

        var ids = arange(tokens, int64).mul(7).remainder(FamilyCases.Vocabulary).view(1, -1);
        Tensor Logits(CausalLanguageModel model) => model.Logits(model.call(ModelInput.Rows(ids)));
        var (actual, expected) = (Logits(scaled), Logits(plain));
        Assert.That(actual.sub(expected).abs().max().ToDouble(), Is.LessThan(2e-5));
        Assert.That(expected.abs().max().ToDouble(), Is.GreaterThan(0.1));
    }

    [TestCase("short_mscale")]
    [TestCase("long_mscale")]
    public void A_factor_that_is_missing_is_named(string key)
    {
        var config = FamilyCases.Config("phimoe_longrope");
        _ = config["rope_scaling"]!.AsObject().Remove(key);
        Assert.That(() => FamilyRegistry.Read(config, "config.json"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(key));
    }

    private static CausalLanguageModel Model(Action<JsonObject>? change)
    {
        var config = FamilyCases.Config("phimoe_longrope");
        if (change is null)
        {
            config["rope_scaling"] = null;
        }
        else
        {
            change(config["rope_scaling"]!.AsObject());
        }

        using var weights = new VariedWeightSource(5);
        return new CausalLanguageModel(FamilyRegistry.Read(config, "config.json"), weights);
    }

    private static void Compare(Tensor cos, Tensor sin, (int Position, int Length)[] texts)
    {
        var (cosines, sines) = (MemoryMarshal.Cast<byte, float>(cos.contiguous().bytes).ToArray(), MemoryMarshal.Cast<byte, float>(sin.contiguous().bytes).ToArray());
        Assert.That(cosines, Has.Length.EqualTo(texts.Length * 2));
        for (var token = 0; token < texts.Length; token++)
        {
            var (position, length) = texts[token];
            var (factors, scale) = length > Original ? (s_long, 1.3) : (s_short, 1.1);
            for (var pair = 0; pair < 2; pair++)
            {
                var angle = position / (factors[pair] * Math.Pow(1e6, pair / 2.0));
                Assert.That(cosines[(token * 2) + pair], Is.EqualTo(scale * Math.Cos(angle)).Within(2e-6), $"token {token}, pair {pair}");
                Assert.That(sines[(token * 2) + pair], Is.EqualTo(scale * Math.Sin(angle)).Within(2e-6), $"token {token}, pair {pair}");
            }
        }
    }
}
