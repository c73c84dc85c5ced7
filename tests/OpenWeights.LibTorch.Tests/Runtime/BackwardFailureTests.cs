using System.Runtime.InteropServices;
using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Runtime;

/// <summary>What goes wrong in a C# backward is an exception where backward was called; in TorchSharp it ends the process.</summary>
public sealed class BackwardFailureTests
{
    private sealed class Failing : autograd.SingleTensorFunction<Failing>
    {
        public override string Name => "Failing";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            ctx.save_data("backward", vars[1]);
            return (Tensor)vars[0] * 1;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => ((Func<Tensor, List<Tensor>>)ctx.get_data("backward"))(grad_output);
    }

    private sealed class Two : autograd.MultiTensorFunction<Two>
    {
        public override string Name => "Two";

        public override List<Tensor> forward(autograd.AutogradContext ctx, params object[] vars) => [(Tensor)vars[0] * 2, (Tensor)vars[0] * 3];

        public override List<Tensor> backward(autograd.AutogradContext ctx, List<Tensor> grad_outputs) => [(grad_outputs[0] * 2) + (grad_outputs[1] * 3)];
    }

    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void The_very_exception_surfaces_with_the_place_where_it_was_thrown()
    {
        var thrown = new InvalidOperationException("the reason");
        var caught = Assert.Throws<InvalidOperationException>(() => Run(_ => Throw(thrown)));
        Assert.That(caught, Is.SameAs(thrown));
        Assert.That(caught!.StackTrace, Does.Contain(nameof(Throw)));
    }

    [Test]
    public void A_mistake_in_libtorch_inside_a_backward_surfaces()
    {
        Assert.That(() => Run(static g => [g.view(1, 3).matmul(g.view(1, 3))]), Throws.InstanceOf<ExternalException>().With.Message.Contains("cannot be multiplied"));
    }

    [Test]
    public void Too_few_gradients_and_gradients_for_what_is_no_tensor_are_refused()
    {
        Assert.That(() => Run(static _ => []), Throws.InstanceOf<NotImplementedException>().With.Message.Contains("Failing").And.Message.Contains("expected 2"));
        Assert.That(() => Run(static g => [g * 1, g * 1]), Throws.InstanceOf<NotImplementedException>().With.Message.Contains("position 2"));
        Assert.That(() => Run(static g => [g * 1, null!, g * 1]), Throws.InstanceOf<NotImplementedException>());
    }

    [Test]
    public void A_gradient_of_another_shape_is_refused()
    {
        Assert.That(() => Run(static _ => [ones(7), null!]), Throws.InstanceOf<ExternalException>().With.Message.Contains("shape"));
    }

    [Test]
    public void Gradients_are_taken_again_after_a_failure()
    {
        Assert.That(() => Run(static _ => throw new InvalidOperationException()), Throws.InvalidOperationException);
        Assert.That(Run(static g => [g * 5, null!]), Is.EqualTo(new double[] { 5, 5, 5 }));
        Assert.That(() => _ = ones(2) + ones(3), Throws.InstanceOf<ExternalException>());
    }

    [Test]
    public void A_failure_inside_a_gradient_inside_a_gradient_surfaces()
    {
        var thrown = new InvalidOperationException("the innermost reason");
        var caught = Assert.Throws<InvalidOperationException>(() => Run(g =>
        {
            using var on = enable_grad();
            Failing.apply(g.detach().requires_grad_(), (Func<Tensor, List<Tensor>>)(_ => throw thrown)).sum().backward();
            return [g, null!];
        }));
        Assert.That(caught, Is.SameAs(thrown));
    }

    [Test]
    public void Each_thread_gets_its_own_failure()
    {
        var found = new string?[4];
        var threads = Enumerable.Range(0, 4).Select(number => new Thread(() =>
        {
            using var scope = NewDisposeScope();
            for (var i = 0; i < 200; i++)
            {
                var message = $"{number}/{i}";
                try
                {
                    _ = Run(_ => throw new InvalidOperationException(message));
                }
                catch (InvalidOperationException e) when (e.Message == message)
                {
                    found[number] = message;
                }
                catch (Exception e) when (e is not OutOfMemoryException)
                {
                    found[number] = $"{message} gave {e}";
                    return;
                }
            }
        })).ToArray();
        Array.ForEach(threads, static t => t.Start());
        Array.ForEach(threads, static t => t.Join());
        Assert.That(found, Is.EqualTo(new[] { "0/199", "1/199", "2/199", "3/199" }));
    }

    [Test]
    public void A_failure_leaves_nothing_behind()
    {
        void Fail()
        {
            using var scope = NewDisposeScope();
            Assert.That(() => Run(static g => [g * 1, g * 1]), Throws.InstanceOf<NotImplementedException>());
        }

        Fail();
        var (tensors, bytes) = (Tensor.TotalCount, LibTorchRuntime.CpuMemory.Live);
        for (var i = 0; i < 100; i++)
        {
            Fail();
        }

        Assert.That((Tensor.TotalCount, LibTorchRuntime.CpuMemory.Live), Is.EqualTo((tensors, bytes)));
    }

    [Test]
    public void An_output_that_nobody_used_and_that_is_gone_still_has_a_gradient_of_zeros()
    {
        var x = ones(3, requires_grad: true);
        Tensor loss;
        using (NewDisposeScope())
        {
            loss = Two.apply(x)[1].sum().MoveToOuterDisposeScope();
        }

        loss.backward();
        Assert.That(x.grad!.ToString(), Does.Contain("3"));
        Assert.That(x.grad!.eq(3).all().ToBoolean(), Is.True);
    }

    [Test]
    public void A_graph_with_saved_tensors_is_used_once()
    {
        var x = ones(3, requires_grad: true);
        var loss = Saving.apply(x).sum();
        loss.backward();
        Assert.That(() => loss.backward(), Throws.InstanceOf<ExternalException>().With.Message.Contains("second time"));
    }

    [Test]
    public void A_saved_tensor_that_was_changed_since_is_refused()
    {
        var x = ones(3, requires_grad: true) * 1;
        var y = Saving.apply(x);
        _ = x.add_(1);
        Assert.That(() => y.sum().backward(), Throws.InstanceOf<ExternalException>().With.Message.Contains("modified by an inplace operation"));
    }

    private sealed class Saving : autograd.SingleTensorFunction<Saving>
    {
        public override string Name => "Saving";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            ctx.save_for_backward([(Tensor)vars[0]]);
            return ((Tensor)vars[0]).square();
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => [ctx.get_saved_variables()[0] * grad_output * 2];
    }

    // The gradient of the sum of three numbers through a function with the backward given.
    private static double[] Run(Func<Tensor, List<Tensor>> backward)
    {
        var x = ones(3, requires_grad: true);
        Failing.apply(x, backward).sum().backward();
        return Meaning.Reading.Values(x.grad!);
    }

    private static List<Tensor> Throw(Exception e) => throw e;
}
