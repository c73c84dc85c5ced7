using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>NEFTune's noise on the embeddings.</summary>
public sealed class EmbeddingNoiseTests
{
    private const int Tokens = 40;
    private const double Alpha = 5;

    [Test]
    public void It_is_uniform_within_alpha_over_the_root_of_tokens_times_hidden_and_there_only_with_gradients()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, TestDevice.Current);
        using var scope = NewDisposeScope();
        var stack = loaded.Model.Stack;
        var input = ModelInput.Rows(arange(0, Tokens, int64, TestDevice.Current).unsqueeze(0));

        var plain = stack.Embed(input.InputIds).detach();
        var states = stack.call(input).detach();
        stack.EmbeddingNoise = Alpha;
        using (no_grad())
        {
            Assert.That(Golden.LargestDifference(stack.call(input), states), Is.Zero, "evaluation and generation");
        }

        Assert.That(Golden.LargestDifference(stack.call(input).detach(), states), Is.GreaterThan(1e-3), "training");
        RandomState.Seed(3, TestDevice.Current);
        var noise = stack.Noisy(plain).sub(plain);
        RandomState.Seed(3, TestDevice.Current);
        Assert.That(Golden.LargestDifference(stack.Noisy(plain).sub(plain), noise), Is.Zero, "of the step's seed");

        var most = Alpha / Math.Sqrt(Tokens * loaded.Model.Config.HiddenSize);
        Assert.That(noise.abs().max().ToDouble(), Is.InRange(0.98 * most, 1.0001 * most));
        Assert.That(noise.mean().ToDouble(), Is.Zero.Within(0.1 * most));
        Assert.That(noise.square().mean().ToDouble(), Is.EqualTo(most * most / 3).Within(10).Percent, "the variance of a uniform distribution");
    }
}
