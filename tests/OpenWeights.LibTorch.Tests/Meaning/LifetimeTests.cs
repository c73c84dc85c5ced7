using System.Runtime.CompilerServices;
using NUnit.Framework;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class LifetimeTests
{
    private sealed class Squared : autograd.SingleTensorFunction<Squared>
    {
        public override string Name => "Squared";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var x = (Tensor)vars[0];
            ctx.save_for_backward([x]);
            return x * x;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => [ctx.get_saved_variables()[0] * grad_output * 2];
    }

    [Test]
    public void A_thousand_steps_leave_no_tensor_behind()
    {
        using var weight = new Parameter(Reading.Mixed(ScalarType.Float32, 8, 8));
        Step(weight);
        Collect();
        var before = Tensor.TotalCount;
        for (var i = 0; i < 1000; i++)
        {
            Step(weight);
        }

        Assert.That(Tensor.TotalCount, Is.LessThanOrEqualTo(before));
    }

    [Test]
    public void A_forgotten_tensor_is_freed_by_the_collector()
    {
        Collect();
        var before = Tensor.TotalCount;
        Forget(500);
        for (var i = 0; i < 20 && Tensor.TotalCount > before; i++)
        {
            Collect();
        }

        Assert.That(Tensor.TotalCount, Is.LessThanOrEqualTo(before + 5));
    }

    [Test]
    public void Threads_work_beside_each_other()
    {
        using var shared = Reading.Mixed(ScalarType.Float32, 16, 16);
        var before = Tensor.TotalCount;
        var failures = new List<Exception>();
        var threads = Enumerable.Range(0, 4).Select(number => new Thread(() =>
        {
            try
            {
                Work(number, shared);
            }
            catch (Exception e)
            {
                lock (failures)
                {
                    failures.Add(e);
                }
            }
        })).ToArray();
        Array.ForEach(threads, static t => t.Start());
        Array.ForEach(threads, static t => t.Join());
        Assert.That(failures, Is.Empty);
        Assert.That(Tensor.TotalCount, Is.LessThanOrEqualTo(before + 4));
    }

    [Test]
    public void The_number_of_threads_is_set()
    {
        var before = get_num_threads();
        try
        {
            set_num_threads(1);
            Assert.That(get_num_threads(), Is.EqualTo(1));
            set_num_threads(3);
            Assert.That(get_num_threads(), Is.EqualTo(3));
        }
        finally
        {
            set_num_threads(before);
        }
    }

    private static void Step(Parameter weight)
    {
        using var scope = NewDisposeScope();
        var x = ones(4, 8);
        var hidden = Squared.apply(F.silu(F.linear(x, weight)));
        var parts = hidden.split(2);
        (parts[0] + parts[1]).sum().backward();
        using (no_grad())
        {
            _ = weight.add_(weight.grad!, -1e-6);
        }

        weight.grad = null;
    }

    private static void Work(int number, Tensor shared)
    {
        using var outer = NewDisposeScope();
        var own = full([16], (double)number).requires_grad_();
        for (var i = 0; i < 200; i++)
        {
            using var scope = NewDisposeScope();
            Squared.apply(F.linear(own, shared)).sum().backward();
            var expected = F.linear(F.linear(own, shared), shared.t()) * 2;
            Assert.That(((own.grad! - expected).abs().max() / expected.abs().max()).ToDouble(), Is.LessThan(1e-4));
            Assert.That(scope.DisposablesCount, Is.GreaterThan(3));
            own.grad = null;
        }

        Assert.That(outer.DisposablesCount, Is.EqualTo(1));
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Forget(int count)
    {
        for (var i = 0; i < count; i++)
        {
            _ = ones(1000);
        }
    }

    private static void Collect()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
    }
}
