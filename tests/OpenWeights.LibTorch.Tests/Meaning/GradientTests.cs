using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace OpenWeights.LibTorch.Tests.Meaning;

/// <summary>Gradients against central differences in float64.</summary>
public sealed class GradientTests
{
    private static readonly Dictionary<string, Func<Tensor[], Tensor>> s_functions = new()
    {
        ["products"] = static x => x[0].matmul(x[1].t()).square().sum(),
        ["silu and gelu"] = static x => (F.silu(x[0]) * F.gelu(x[1])).sum(),
        ["softmax"] = static x => (x[0].softmax(-1) * x[1]).sum(),
        ["log softmax"] = static x => (x[0].log_softmax(0) * x[1].sigmoid()).sum(),
        ["cross entropy"] = static x => F.cross_entropy(x[0] * x[1], tensor(new long[] { 1, 0, -100 })),
        ["root mean square"] = static x => (x[0] * (x[0].square().mean([-1], keepdim: true) + 1e-3).rsqrt() * x[1]).sum(),
        ["attention"] = static x => (F.scaled_dot_product_attention(x[0].view(1, 1, 3, 4), x[1].view(1, 1, 3, 4), (x[0] * x[1]).view(1, 1, 3, 4), null, 0, true) * x[0].view(1, 1, 3, 4)).sum(),
        ["selection"] = static x => (x[0].index_select(0, tensor(new long[] { 2, 0, 2 })) * x[1]).pow(3).sum(),
        ["scatter"] = static x => zeros(3, 4, dtype: ScalarType.Float64).scatter_(1, tensor(new long[] { 3, 1, 0 }, [3, 1]), x[0].narrow(1, 0, 1)).mul(x[1]).sum(),
        ["views"] = static x => (cat([x[0].view(4, 3).t(), x[1].view(3, 2, 2).select(2, 0)], 1) * stack([x[0], x[1]]).permute(1, 0, 2).reshape(3, 8).narrow(1, 1, 6)).sum(),
        ["division"] = static x => (x[0] / (x[1].square() + 1) - (2 / (x[0] + 3))).sum(),
        ["exponentials"] = static x => (x[0].exp() * x[1].tanh() - (x[0] + 2).log() * (x[1] + 2).sqrt()).sum(),
        ["clamp and masks"] = static x => (x[0].clamp_min(-0.53) * x[1].masked_fill(x[1].gt(0.1), 0.5)).sum(),
        ["where"] = static x => where(x[0].gt(x[1]), x[0] * 2, x[1].square()).sum(),
        ["minimum"] = static x => minimum(x[0] * 2, x[1].square()).sum(),
        ["logsumexp"] = static x => (x[0].logsumexp(1) * x[1].norm(1)).sum(),
        ["in place"] = static x => (x[0] * 1).mul_(x[1]).add_(x[0]).sigmoid().sum(),
    };

    private static IEnumerable<string> Names => s_functions.Keys;

    [TestCaseSource(nameof(Names))]
    public void A_gradient_agrees_with_differences(string name)
    {
        using var scope = NewDisposeScope();
        var inputs = new[] { Reading.Mixed(ScalarType.Float64, 3, 4), Reading.Mixed(ScalarType.Float64, 24).view(3, 4, 2).select(2, 1).contiguous() * 0.9 };
        Compare(s_functions[name], inputs);
    }

    internal static void Compare(Func<Tensor[], Tensor> function, Tensor[] inputs, double tolerance = 1e-7)
    {
        var leaves = Array.ConvertAll(inputs, static x => x.detach().clone().requires_grad_());
        function(leaves).backward();
        for (var i = 0; i < inputs.Length; i++)
        {
            Assert.That(leaves[i].grad!.Values(), Is.EqualTo(Differences(function, inputs, i)).Within(tolerance), $"input {i}");
        }
    }

    private static double[] Differences(Func<Tensor[], Tensor> function, Tensor[] inputs, int which)
    {
        const double step = 1e-5;
        var values = inputs[which].Values();
        return [.. values.Select((_, at) => (Moved(at, step) - Moved(at, -step)) / (2 * step))];

        double Moved(int at, double by)
        {
            using var scope = NewDisposeScope();
            using var off = no_grad();
            var moved = (double[])values.Clone();
            moved[at] += by;
            var arguments = (Tensor[])inputs.Clone();
            arguments[which] = tensor(moved, inputs[which].shape);
            return function(arguments).ToDouble();
        }
    }
}
