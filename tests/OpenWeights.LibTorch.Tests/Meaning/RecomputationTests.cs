using NUnit.Framework;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace OpenWeights.LibTorch.Tests.Meaning;

/// <summary>Gradient checkpointing as a custom function: forward keeps only its input, backward computes the block again.</summary>
public sealed class RecomputationTests
{
    private sealed class Recomputed : autograd.SingleTensorFunction<Recomputed>
    {
        public override string Name => "Recomputed";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (block, x) = ((Func<Tensor, Tensor>)vars[0], (Tensor)vars[1]);
            ctx.save_data("block", block);
            ctx.save_for_backward([x, get_rng_state()]);
            return block(x);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            using var scope = NewDisposeScope();
            var saved = ctx.get_saved_variables();
            var after = get_rng_state();
            set_rng_state(saved[1]);
            var x = saved[0].detach().requires_grad_();
            using (enable_grad())
            {
                var y = ((Func<Tensor, Tensor>)ctx.get_data("block"))(x);
                autograd.backward([y], [grad_output]);
            }

            set_rng_state(after);
            return [null!, x.grad!.MoveToOuterDisposeScope()];
        }
    }

    [TestCase(0.0)]
    [TestCase(0.3)]
    public void Gradients_are_the_same_to_the_last_bit(double dropout)
    {
        using var scope = NewDisposeScope();
        var (plain, recomputed) = (Run(dropout, static (block, x) => block(x)), Run(dropout, static (block, x) => Recomputed.apply(block, x)));
        Assert.That(recomputed.Length, Is.EqualTo(plain.Length));
        for (var i = 0; i < plain.Length; i++)
        {
            Assert.That(recomputed[i], Is.EqualTo(plain[i]), $"gradient {i}");
            Assert.That(plain[i].Any(static b => b != 0), Is.True);
        }
    }

    // A stack of blocks; the bits of every gradient and of the loss.
    private static byte[][] Run(double dropout, Func<Func<Tensor, Tensor>, Tensor, Tensor> through)
    {
        using var scope = NewDisposeScope();
        _ = manual_seed(11);
        var weights = Enumerable.Range(0, 6).Select(static i => new Parameter(Reading.Mixed(ScalarType.Float32, 16, 16) * (0.3 + (0.1 * i)))).ToArray();
        var x = Reading.Mixed(ScalarType.Float32, 8, 16).requires_grad_();
        var hidden = x * 1;
        for (var i = 0; i < weights.Length; i += 2)
        {
            var (up, down) = (weights[i], weights[i + 1]);
            hidden = through(h => h + F.linear(F.dropout(F.silu(F.linear(h, up)), dropout, dropout > 0), down), hidden);
        }

        var loss = hidden.square().mean();
        loss.backward();
        return [loss.Bits(), x.grad!.Bits(), .. weights.Select(static w => w.grad!.Bits())];
    }
}
