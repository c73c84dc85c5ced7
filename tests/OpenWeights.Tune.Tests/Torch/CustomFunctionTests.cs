using NUnit.Framework;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Torch.Memory;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Tests.Torch;

/// <summary>What all functions with a derivative of their own have in common: memory, gradients that do not arrive, exceptions.</summary>
public sealed class CustomFunctionTests
{
    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void Memory_falls_with_every_layer_of_a_backward()
    {
        if (CpuMemory.Statistics is null)
        {
            Assert.Ignore("large blocks come from the C library here, which does not tell");
        }

        var seen = EightLayers.Watch(CPU, static () => CpuMemory.Statistics!.Value.Live);
        TestContext.Out.WriteLine(string.Join(", ", seen));
        Assert.That(seen, Has.Count.EqualTo(EightLayers.Count));

        // The first layer of backward holds an output gradient that is one number, spread; the second a whole one.
        for (var i = 2; i < seen.Count; i++)
        {
            Assert.That(seen[i - 1] - seen[i], Is.GreaterThanOrEqualTo(EightLayers.Mebi), $"layer {i} of backward begins with what the one before it kept");
        }
    }

    [Test]
    public void Nothing_is_left_when_the_scope_and_the_graph_are_gone()
    {
        _ = EightLayers.Watch(CPU, static () => 0);
        var (tensors, bytes) = (Tensor.TotalCount, CpuMemory.Statistics?.Live);
        for (var i = 0; i < 20; i++)
        {
            _ = EightLayers.Watch(CPU, static () => 0);
        }

        Assert.That((Tensor.TotalCount, CpuMemory.Statistics?.Live), Is.EqualTo((tensors, bytes)));
    }

    [Test]
    public void A_gradient_that_does_not_arrive_is_zeros_and_without_any_the_function_is_not_asked()
    {
        var x = ones(3, requires_grad: true);
        var calls = new List<double[]>();
        var outputs = Two.Of(x, calls);
        BackwardPass.Run([outputs[1].sum()]);
        Assert.That(calls.Single(), Is.EqualTo(new double[] { 0, 3 }));
        Assert.That(x.grad!.sum().ToDouble(), Is.EqualTo(3 * 3));

        // Backward of a function that gives nothing reaches this one all the same.
        calls.Clear();
        var y = ones(3, requires_grad: true);
        BackwardPass.Run([Nothing.Of(Two.Of(y, calls)[0]).sum()]);
        Assert.That(calls, Is.Empty);
        Assert.That(y.grad, Is.Null);
    }

    [Test]
    public void A_parameters_gradients_add_up_and_are_not_copied()
    {
        var weight = new TorchSharp.Modules.Parameter(ones(EightLayers.Mebi / 4));
        var before = CpuMemory.Statistics?.Live;
        foreach (var expected in new double[] { 3, 6 })
        {
            BackwardPass.Run([Two.Of(weight, [])[1].sum()]);
            Assert.That(weight.grad!.select(0, 0).ToDouble(), Is.EqualTo(expected));
        }

        using (NewDisposeScope())
        {
            // By libtorch's own accumulation where something else is asked for: a gradient of another layout.
            BackwardPass.Run([Two.Of(weight, [])[1].sum().add(weight.sum(), Scalars.One)]);
        }

        Assert.That(weight.grad!.select(0, 0).ToDouble(), Is.EqualTo(10));
        _scope.DisposeEverythingBut(weight);
        Assert.That(CpuMemory.Statistics?.Live - before, Is.Null.Or.EqualTo(EightLayers.Mebi));
    }

    [Test]
    public void An_exception_in_a_backward_is_thrown_where_the_pass_was_run_and_the_next_pass_is_whole()
    {
        var x = ones(3, requires_grad: true);
        var thrown = new InvalidOperationException("the reason");
        Assert.That(Assert.Throws<InvalidOperationException>(() => BackwardPass.Run([Failing.Of(x.mul(x), () => throw thrown).sum()])), Is.SameAs(thrown));
        Assert.That(x.grad, Is.Null);
        BackwardPass.Run([Failing.Of(x.mul(x), static () => { }).sum()]);
        Assert.That(x.grad!.sum().ToDouble(), Is.EqualTo(6));
    }

    [Test]
    public void An_exception_in_a_backward_inside_a_backward_is_thrown_at_the_outer_one()
    {
        var x = ones(3, requires_grad: true);
        var thrown = new InvalidOperationException("the innermost reason");
        void Inner()
        {
            using var on = enable_grad();
            BackwardPass.Run([Failing.Of(ones(3, requires_grad: true), () => throw thrown).sum()]);
        }

        Assert.That(Assert.Throws<InvalidOperationException>(() => BackwardPass.Run([Failing.Of(x, Inner).sum()])), Is.SameAs(thrown));
    }

    [Test]
    public void Each_thread_gets_its_own_exception()
    {
        var found = new string?[3];
        var threads = Enumerable.Range(0, found.Length).Select(number => new Thread(() =>
        {
            using var scope = NewDisposeScope();
            for (var i = 0; i < 100; i++)
            {
                var message = $"{number}/{i}";
                try
                {
                    BackwardPass.Run([Failing.Of(ones(3, requires_grad: true), () => throw new InvalidOperationException(message)).sum()]);
                }
                catch (InvalidOperationException e)
                {
                    found[number] = e.Message == message ? message : $"{message} gave {e.Message}";
                }
            }
        })).ToArray();
        Array.ForEach(threads, static t => t.Start());
        Array.ForEach(threads, static t => t.Join());
        Assert.That(found, Is.EqualTo(new[] { "0/99", "1/99", "2/99" }));
    }

    /// <summary>2 x and 3 x.</summary>
    private sealed class Two : CustomFunction<Two>
    {
        internal static List<Tensor> Of(Tensor x, List<double[]> calls) => Record(x, calls);

        protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
        {
            var x = (Tensor)inputs[0];
            context.save_data("calls", inputs[1]);
            return [x.Plus(x), x.Plus(x).Plus(x)];
        }

        protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
        {
            ((List<double[]>)context.get_data("calls")).Add([gradients[0].sum().ToDouble(), gradients[1].sum().ToDouble()]);
            return [gradients[0].Plus(gradients[0]).Plus(gradients[1]).Plus(gradients[1]).Plus(gradients[1]), null];
        }
    }

    /// <summary>x, whose gradient goes nowhere.</summary>
    private sealed class Nothing : CustomFunction<Nothing>
    {
        internal static Tensor Of(Tensor x) => Record(x)[0];

        protected override List<Tensor> Forward(AutogradContext context, object[] inputs) => [((Tensor)inputs[0]).clone()];

        protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients) => [null];
    }

    /// <summary>x, which does something in its backward.</summary>
    private sealed class Failing : CustomFunction<Failing>
    {
        internal static Tensor Of(Tensor x, Action action) => Record(x, action)[0];

        protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
        {
            context.save_data("action", inputs[1]);
            return [((Tensor)inputs[0]).clone()];
        }

        protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients)
        {
            ((Action)context.get_data("action"))();
            return [gradients[0].clone(), null];
        }
    }
}
