using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models.Families;

/// <summary>
/// The families of before transformers 5 against a float64 recomputation from its published definition. For Gemma 3, Granite, OLMo 2, SmolLM3, the Qwen mixtures
/// of experts, Qwen2's windows, LongRoPE and partial rotation, which have no numbers of the reference here, it is the only witness.
/// </summary>
[Category(TestDevice.Parity)]
[TestFixtureSource(typeof(FamilyCases), nameof(FamilyCases.Defined))]
public sealed class DefinitionTests(string name)
{
    private static readonly int[] s_text = [5, 9, 2, 7, 7, 31, 12, 8, 1, 30, 22];

    [TestCase(5)]
    [TestCase(11)]
    public void Logits_are_those_of_the_definition(int tokens)
    {
        using var model = FamilyCases.Make(name);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var expected = new Float64Decoder(FamilyCases.Config(name), Weights(model)).Logits(s_text[..tokens]);
        var actual = model.Logits(model.call(ModelInput.Rows(tensor([.. s_text[..tokens].Select(static i => (long)i)], [1, tokens], device: TestDevice.Current)))).squeeze(0);
        var wanted = tensor([.. expected.SelectMany(static r => r)], [tokens, FamilyCases.Vocabulary]);
        Assert.That(Golden.LargestDifference(actual, wanted), Is.LessThan(3e-5 * Math.Max(1, wanted.abs().max().ToDouble())));
    }

    [Test]
    public void The_loss_changes_along_its_gradient_as_the_definitions_loss_does()
    {
        using var model = FamilyCases.Make(name);
        foreach (var parameter in model.parameters())
        {
            parameter.requires_grad = true;
        }

        using var scope = NewDisposeScope();
        new SupervisedObjective().LossSum(model, TokenBatch.Of([new TokenRow(s_text, s_text, "text")], padId: 0, TestDevice.Current)).backward();
        var weights = Weights(model);
        var random = new Random(2);
        var (slope, config) = (0.0, FamilyCases.Config(name));
        var (ahead, behind) = (new Dictionary<string, double[]>(), new Dictionary<string, double[]>());
        const double Step = 1e-6;
        foreach (var (parameter, tensor) in model.named_parameters())
        {
            double[] direction = [.. weights[parameter].Select(_ => random.NextDouble() - 0.5)];
            slope += Floats(tensor.grad!).Zip(direction, static (g, d) => g * d).Sum();
            ahead[parameter] = [.. weights[parameter].Zip(direction, static (w, d) => w + (Step * d))];
            behind[parameter] = [.. weights[parameter].Zip(direction, static (w, d) => w - (Step * d))];
        }

        var expected = (Loss(new Float64Decoder(config, ahead).Logits(s_text)) - Loss(new Float64Decoder(config, behind).Logits(s_text))) / (2 * Step);
        Assert.That(slope, Is.EqualTo(expected).Within(1e-4 * Math.Max(1, Math.Abs(expected))));
    }

    private static double Loss(double[][] logits) =>
        Enumerable.Range(0, s_text.Length - 1).Sum(t => Math.Log(logits[t].Sum(static v => Math.Exp(v))) - logits[t][s_text[t + 1]]);

    private static Dictionary<string, double[]> Weights(CausalLanguageModel model) => model.named_parameters().ToDictionary(static p => p.name, static p => Floats(p.parameter));

    private static double[] Floats(Tensor values)
    {
        using var scope = NewDisposeScope();
        return Array.ConvertAll(MemoryMarshal.Cast<byte, float>(values.detach().cpu().contiguous().bytes).ToArray(), static v => (double)v);
    }
}
