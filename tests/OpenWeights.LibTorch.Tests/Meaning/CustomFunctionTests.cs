using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class CustomFunctionTests
{
    // x * factor, where factor is no tensor; keeps its input, a number and an object.
    private sealed class Scaled : autograd.SingleTensorFunction<Scaled>
    {
        public override string Name => "Scaled";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (x, factor) = ((Tensor)vars[0], (double)vars[1]);
            ctx.save_for_backward([x]);
            ctx.save_data("factor", factor);
            ctx.save_data("grad enabled", is_grad_enabled());
            return x * x * factor;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output)
        {
            Assert.That(ctx.get_data("grad enabled"), Is.False);
            Assert.That(is_grad_enabled(), Is.False);
            Assert.That(ctx.get_data("nothing of this name"), Is.Null);
            var x = ctx.get_saved_variables()[0];
            return [grad_output * x * (2 * (double)ctx.get_data("factor")), null!, null!];
        }
    }

    // exp, keeping its output.
    private sealed class Exponential : autograd.SingleTensorFunction<Exponential>
    {
        public override string Name => "Exponential";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var y = ((Tensor)vars[0]).exp();
            ctx.save_for_backward([y]);
            return y;
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => [grad_output * ctx.get_saved_variables()[0]];
    }

    // Its input, unchanged, with the gradient doubled.
    private sealed class Doubling : autograd.SingleTensorFunction<Doubling>
    {
        public override string Name => "Doubling";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars) => (Tensor)vars[0];

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => [grad_output * 2];
    }

    // Sum, difference and a place (which has no gradient) of two tensors.
    private sealed class Three : autograd.MultiTensorFunction<Three>
    {
        public override string Name => "Three";

        internal static List<bool> Invalid { get; } = [];

        public override List<Tensor> forward(autograd.AutogradContext ctx, params object[] vars)
        {
            var (a, b, materialise) = ((Tensor)vars[0], (Tensor)vars[1], (bool)vars[2]);
            ctx.set_materialize_grads(materialise);
            Assert.That(ctx.MaterializeGrads, Is.EqualTo(materialise));
            var place = a.argmax();
            ctx.mark_non_differentiable([place]);
            return [a + b, a - b, place];
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, List<Tensor> grad_outputs)
        {
            Invalid.Clear();
            Invalid.AddRange(grad_outputs.Take(2).Select(static g => g.IsInvalid));
            var given = grad_outputs.Take(2).Select(static g => g.IsInvalid ? zeros(2) : g).ToArray();
            return [given[0] + given[1], given[0] - given[1], null!];
        }
    }

    // The cube with a derivative made of operations that can be differentiated again.
    private sealed class Cube : autograd.SingleTensorFunction<Cube>
    {
        public override string Name => "Cube";

        public override Tensor forward(autograd.AutogradContext ctx, params object[] vars)
        {
            ctx.save_for_backward([(Tensor)vars[0]]);
            return ((Tensor)vars[0]).pow(3);
        }

        public override List<Tensor> backward(autograd.AutogradContext ctx, Tensor grad_output) => [grad_output * ctx.get_saved_variables()[0].square() * 3];
    }

    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void A_function_gives_its_own_gradient_and_none_for_what_is_no_tensor()
    {
        var x = tensor(new float[] { 1, 2 }, requires_grad: true);
        var y = Scaled.apply(x, 3.0, "a word");
        Assert.That((y.requires_grad, y.is_leaf), Is.EqualTo((true, false)));
        y.sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 6, 12 }));
    }

    [Test]
    public void A_gradient_agrees_with_differences()
    {
        var x = Reading.Mixed(ScalarType.Float64, 3, 4);
        GradientTests.Compare(static t => (Exponential.apply(Scaled.apply(t[0], 0.7, null!)) * t[0]).sum(), [x]);
    }

    [Test]
    public void Nothing_is_recorded_where_no_gradient_is_wanted()
    {
        var x = ones(2, requires_grad: true);
        using (no_grad())
        {
            Assert.That(Scaled.apply(x, 3.0, null!).requires_grad, Is.False);
        }

        Assert.That(Scaled.apply(ones(2), 3.0, null!).requires_grad, Is.False);
    }

    [Test]
    public void An_output_that_is_saved_comes_back_in_backward()
    {
        var x = tensor(new double[] { 0, 1 }, requires_grad: true);
        Exponential.apply(x).sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new[] { 1, Math.E }).Within(1e-12));
    }

    [Test]
    public void An_output_that_is_the_input_has_the_functions_gradient()
    {
        var x = ones(2, requires_grad: true);
        var y = Doubling.apply(x);
        Assert.That(y, Is.Not.SameAs(x));
        Assert.That((x.is_leaf, y.is_leaf), Is.EqualTo((true, false)));
        (y * 3).sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 6, 6 }));
        var inner = ones(2, requires_grad: true);
        Doubling.apply(Doubling.apply(inner * 1)).sum().backward();
        Assert.That(inner.grad!.Values(), Is.EqualTo(new double[] { 4, 4 }));
    }

    [Test]
    public void The_gradients_of_outputs_that_nobody_used_are_zeros()
    {
        var (a, b) = (ones(2, requires_grad: true), ones(2, requires_grad: true));
        var outputs = Three.apply(a, b, true);
        Assert.That(outputs.Select(static o => o.requires_grad), Is.EqualTo(new[] { true, true, false }));
        outputs[1].sum().backward();
        Assert.That(Three.Invalid, Is.EqualTo(new[] { false, false }));
        Assert.That(a.grad!.Values(), Is.EqualTo(new double[] { 1, 1 }));
        Assert.That(b.grad!.Values(), Is.EqualTo(new double[] { -1, -1 }));
    }

    [Test]
    public void The_gradients_of_outputs_that_nobody_used_are_left_out_where_asked_for()
    {
        var (a, b) = (ones(2, requires_grad: true), ones(2));
        Three.apply(a, b, false)[1].sum().backward();
        Assert.That(Three.Invalid, Is.EqualTo(new[] { true, false }));
        Assert.That(a.grad!.Values(), Is.EqualTo(new double[] { 1, 1 }));
        Assert.That(b.grad, Is.Null);
    }

    [Test]
    public void All_outputs_take_part_in_the_gradient()
    {
        var (a, b) = (ones(2, requires_grad: true), ones(2, requires_grad: true));
        var outputs = Three.apply_internal(a, b, true);
        (outputs[0] * 2 + outputs[1] * 5).sum().backward();
        Assert.That(a.grad!.Values(), Is.EqualTo(new double[] { 7, 7 }));
        Assert.That(b.grad!.Values(), Is.EqualTo(new double[] { -3, -3 }));
    }

    [Test]
    public void A_function_is_differentiated_twice()
    {
        var x = tensor(new double[] { 2 }, requires_grad: true);
        Cube.apply(x).sum().backward(create_graph: true);
        var first = x.grad!;
        x.grad = null;
        first.sum().backward();
        Assert.That((first.ToDouble(), x.grad!.ToDouble()), Is.EqualTo((12.0, 12.0)));
    }

    [Test]
    public void A_graph_with_a_function_is_retained()
    {
        var x = tensor(new float[] { 1, 2 }, requires_grad: true);
        var loss = Scaled.apply(x, 3.0, null!).sum();
        loss.backward(retain_graph: true);
        loss.backward(retain_graph: true);
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 12, 24 }));
    }

    [Test]
    public void A_graph_outlives_the_scope_it_was_made_in()
    {
        var x = tensor(new float[] { 1, 2 }, requires_grad: true);
        Tensor loss;
        using (NewDisposeScope())
        {
            loss = Exponential.apply(Scaled.apply(x * 1, 0.5, null!)).sum().MoveToOuterDisposeScope();
        }

        loss.backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new[] { Math.Exp(0.5), 2 * Math.Exp(2) }).Within(1e-5));
    }

    [Test]
    public void A_function_runs_on_any_thread()
    {
        double[]? found = null;
        var thread = new Thread(() =>
        {
            using var scope = NewDisposeScope();
            var x = tensor(new float[] { 1, 2 }, requires_grad: true);
            Scaled.apply(x, 3.0, null!).sum().backward();
            found = x.grad!.Values();
        });
        thread.Start();
        thread.Join();
        Assert.That(found, Is.EqualTo(new double[] { 6, 12 }));
    }
}
