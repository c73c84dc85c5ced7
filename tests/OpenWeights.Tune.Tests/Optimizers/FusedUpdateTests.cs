using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Optimizers;

/// <summary>Steps in one pass over memory against the same steps composed of torch's operators.</summary>
public sealed class FusedUpdateTests
{
    // Of several parts with an end that fills no vector, of less than a vector, and empty.
    private static readonly long[][] s_shapes = [[3, ArrayPart.Length + 5], [3], [40, 50], [0]];

    [Test]
    public void A_step_in_one_pass_is_the_composition_of_operators(
        [Values("adamw", "lion", "sgd", "ademamix", "schedule_free_adamw", "lora_fa", "adamw_8bit", "ademamix_8bit")] string name, [Values("float32", "bfloat16")] string dtype, [Values(0.0, 0.8)] double momentum)
    {
        using var scope = NewDisposeScope();
        var (fused, composed) = (Parameters(dtype), Parameters(dtype));
        using var one = Optimizer(name, fused, momentum);
        using var other = Optimizer(name, composed, momentum);
        for (var step = 0; step < 3; step++)
        {
            foreach (var (a, b) in fused.Zip(composed))
            {
                var gradient = randn(a.Parameter.shape, float32).to(a.Parameter.dtype);
                (a.Parameter.grad, b.Parameter.grad) = (gradient.clone(), gradient.clone());
            }

            one.Step(0.01, gradientScale: 0.37);
            Compose(other, 0.37);
        }

        // A unit in the last place now and then, where torch's operators round a product and a sum at once; a few signs of Lion's turn on it.
        // So do codes at their borders.
        var turned = name == "lion" ? 40 : name.EndsWith("_8bit", StringComparison.Ordinal) ? 20 : 0;
        foreach (var (a, b) in fused.Zip(composed))
        {
            Assert.That(Apart(a.Parameter, b.Parameter, dtype == "float32" ? 1e-6 : 1.0 / 64), Is.LessThanOrEqualTo(turned), a.Name);
        }

        foreach (var (a, b) in one.State.Zip(other.State))
        {
            Assert.That(a.Name, Is.EqualTo(b.Name));
            var ofMaster = a.Name.EndsWith(".master_rest", StringComparison.Ordinal);
            var isCode = a.State.dtype == ScalarType.Byte;
            Assert.That(Apart(Exact(a, fused), Exact(b, composed), isCode ? 0 : 1e-6), Is.LessThanOrEqualTo(ofMaster || isCode ? turned : 0), a.Name);
        }
    }

    [Test]
    public void A_bfloat16_parameter_with_its_lower_bits_is_stepped_as_a_float32_copy_of_it()
    {
        using var scope = NewDisposeScope();
        var (split, copied) = (Parameters("bfloat16"), Parameters("bfloat16"));
        using var one = Optimizer("adamw", split, 0);
        using var other = WithCopies(copied);
        Assert.That(Bytes(other) - Bytes(one), Is.EqualTo(2 * split.Sum(static p => p.Parameter.numel())), "half of each copy");
        for (var step = 0; step < 4; step++)
        {
            foreach (var (a, b) in split.Zip(copied))
            {
                var gradient = randn(a.Parameter.shape, float32).to(bfloat16);
                (a.Parameter.grad, b.Parameter.grad) = (gradient.clone(), gradient.clone());
            }

            one.Step(0.01, gradientScale: 0.5);
            other.Step(0.01, gradientScale: 0.5);
        }

        var copies = other.State.ToDictionary(static s => s.Name, static s => s.State);
        foreach (var rest in one.State.Where(static s => s.Name.EndsWith(".master_rest", StringComparison.Ordinal)))
        {
            Assert.That(Values(Exact(rest, split)), Is.EqualTo(Values(copies[rest.Name[..^5]])), rest.Name);
        }
    }

    [Test]
    public void A_state_goes_over_from_copies_to_lower_bits_and_back([Values] bool fromCopies)
    {
        using var scope = NewDisposeScope();
        var (from, to) = (Parameters("bfloat16"), Parameters("bfloat16"));
        using var source = fromCopies ? WithCopies(from) : Optimizer("adamw", from, 0);
        using var target = fromCopies ? Optimizer("adamw", to, 0) : WithCopies(to);
        foreach (var trained in from)
        {
            trained.Parameter.grad = randn(trained.Parameter.shape, float32).to(bfloat16);
        }

        source.Step(0.01);
        using (no_grad())
        {
            foreach (var (a, b) in from.Zip(to))
            {
                _ = b.Parameter.copy_(a.Parameter);
            }
        }

        var saved = source.State.ToDictionary(static s => s.Name, static s => s.State);
        target.Restore(saved.ContainsKey, name => saved[name].clone());
        var masters = target.State.Zip(source.State).Where(static s => s.First.Name.Contains(".master", StringComparison.Ordinal)).ToList();
        Assert.That(masters, Has.Count.EqualTo(s_shapes.Length));
        foreach (var (now, then) in masters)
        {
            Assert.That(Values(Exact(now, to)), Is.EqualTo(Values(Exact(then, from))), now.Name);
        }
    }

    [Test]
    public void A_gradient_that_lies_across_is_stepped_all_the_same()
    {
        using var scope = NewDisposeScope();
        var (fused, composed) = (Parameters("float32"), Parameters("float32"));
        using var one = Optimizer("adamw", [fused[2]], 0);
        using var other = Optimizer("adamw", [composed[2]], 0);
        var gradient = randn([50, 40], float32).t();
        (fused[2].Parameter.grad, composed[2].Parameter.grad) = (gradient, gradient.contiguous());
        one.Step(0.01);
        Compose(other);
        Assert.That(Values(fused[2].Parameter), Is.EqualTo(Values(composed[2].Parameter)));
    }

    [Test]
    public void The_norm_of_gradients_is_that_of_float64([Values("float32", "bfloat16")] string dtype)
    {
        using var scope = NewDisposeScope();
        var parameters = Parameters(dtype);
        var sum = 0.0;
        foreach (var trained in parameters.Where(static p => p.Name != "p1"))
        {
            trained.Parameter.grad = randn(trained.Parameter.shape, float32).to(trained.Parameter.dtype);
            sum += Values(trained.Parameter.grad!).Sum(static v => v * v);
        }

        var norm = Gradients.Norm(parameters);
        Assert.That(norm, Is.EqualTo(Math.Sqrt(sum)).Within(1e-9).Percent);
        Assert.That(Gradients.Norm(parameters), Is.EqualTo(norm), "whichever threads there are");
        Assert.That(Gradients.ClipFactor(norm, norm / 2), Is.EqualTo(0.5).Within(1e-6));
        Assert.That(Gradients.ClipFactor(norm, 2 * norm), Is.EqualTo(1));
        Assert.That(Gradients.ClipFactor(norm, 0), Is.EqualTo(1), "no limit");
    }

    private static List<TrainedParameter> Parameters(string dtype)
    {
        _ = manual_seed(6);
        return [.. s_shapes.Select((shape, i) => new TrainedParameter($"p{i}", new Parameter(randn(shape, float32).to(Devices.DType(dtype)!.Value)), Decays: i != 1, RateFactor: i + 1))];
    }

    private static ParameterOptimizer Optimizer(string name, List<TrainedParameter> parameters, double momentum) =>
        (ParameterOptimizer)OptimizerKinds.Create(parameters, new TrainingSection { Optimizer = name, Momentum = momentum, WeightDecay = 0.1 });

    // Where kernels do not serve, bfloat16 parameters have float32 copies, as on a GPU.
    private static ParameterOptimizer WithCopies(List<TrainedParameter> parameters)
    {
        CpuKernel.Enabled = false;
        try
        {
            return Optimizer("adamw", parameters, 0);
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }

    private static long Bytes(ParameterOptimizer optimizer) => optimizer.State.Sum(static s => s.State.numel() * s.State.element_size());

    // A state, or the whole numbers that it is the lower bits of.
    private static Tensor Exact((string Name, Tensor State) state, List<TrainedParameter> parameters) => !state.Name.EndsWith(".master_rest", StringComparison.Ordinal) ? state.State
        : SplitFloat.Merge(parameters.Single(p => state.Name == $"{p.Name}.master_rest").Parameter.detach(), state.State);

    private static void Compose(ParameterOptimizer optimizer, double gradientScale = 1)
    {
        CpuKernel.Enabled = false;
        try
        {
            optimizer.Step(0.01, gradientScale);
        }
        finally
        {
            CpuKernel.Enabled = true;
        }
    }

    private static int Apart(Tensor one, Tensor other, double tolerance) => Values(one).Zip(Values(other)).Count(v => !(Math.Abs(v.First - v.Second) <= tolerance));

    private static double[] Values(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        return [.. MemoryMarshal.Cast<byte, float>(tensor.detach().to(float32, copy: true).contiguous().bytes).ToArray().Select(static v => (double)v)];
    }
}
