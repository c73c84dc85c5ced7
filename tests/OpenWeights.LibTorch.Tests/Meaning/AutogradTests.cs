using System.Runtime.InteropServices;
using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class AutogradTests
{
    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void Gradients_add_up_until_they_are_dropped()
    {
        var x = tensor(new float[] { 1, 2 }, requires_grad: true);
        (x * x).sum().backward();
        (x * x).sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 4, 8 }));
        Assert.That(x.grad!.requires_grad, Is.False);
        x.grad = null;
        Assert.That(x.grad, Is.Null);
        x.grad = ones(2);
        (x * 3).sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 4, 4 }));
    }

    [Test]
    public void A_graph_is_used_once_unless_it_is_retained()
    {
        var x = ones(3, requires_grad: true);
        var loss = (x * x).sum();
        loss.backward(retain_graph: true);
        loss.backward();
        Assert.That(x.grad!.Values(), Is.All.EqualTo(4));
        Assert.That(() => loss.backward(), Throws.InstanceOf<ExternalException>().With.Message.Contains("second time"));
    }

    [Test]
    public void A_result_with_several_elements_needs_a_gradient_to_begin_with()
    {
        var x = ones(2, requires_grad: true);
        var y = x * 2;
        Assert.That(() => y.backward(), Throws.InstanceOf<ExternalException>());
        y.backward([tensor(new float[] { 1, 10 })]);
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 2, 20 }));
    }

    [Test]
    public void Gradients_are_given_for_the_inputs_asked_for()
    {
        var (x, w) = (ones(2, requires_grad: true), full([2], 3.0).requires_grad_());
        var loss = (x * w).sum();
        Assert.That(x.grad, Is.Null);
        loss.backward(inputs: [w]);
        Assert.That(x.grad, Is.Null);
        Assert.That(w.grad!.Values(), Is.EqualTo(new double[] { 1, 1 }));
    }

    [Test]
    public void Several_results_are_differentiated_together()
    {
        var x = ones(2, requires_grad: true);
        autograd.backward([(x * 2).sum(), (x * 3).sum()]);
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 5, 5 }));
    }

    [Test]
    public void Second_derivatives_are_taken_through_a_created_graph()
    {
        var x = tensor(new double[] { 2 }, requires_grad: true);
        x.pow(3).sum().backward(create_graph: true);
        var first = x.grad!;
        x.grad = null;
        first.sum().backward();
        Assert.That((first.ToDouble(), x.grad!.ToDouble()), Is.EqualTo((12.0, 12.0)));
    }

    [Test]
    public void Nothing_is_recorded_without_gradients()
    {
        var x = ones(2, requires_grad: true);
        using (no_grad())
        {
            Assert.That(is_grad_enabled(), Is.False);
            Assert.That((x * 2).requires_grad, Is.False);
            using (enable_grad())
            {
                Assert.That((x * 2).requires_grad, Is.True);
            }

            Assert.That(is_grad_enabled(), Is.False);
        }

        Assert.That((is_grad_enabled(), (x * 2).requires_grad, (x * 2).is_leaf, x.is_leaf), Is.EqualTo((true, true, false, true)));
    }

    [Test]
    public void Recording_is_switched_for_one_thread()
    {
        using var off = no_grad();
        var other = false;
        var thread = new Thread(() => other = is_grad_enabled());
        thread.Start();
        thread.Join();
        Assert.That((is_grad_enabled(), other), Is.EqualTo((false, true)));
    }

    [Test]
    public void Only_numbers_with_fractions_want_gradients()
    {
        Assert.That(() => ones(2, dtype: ScalarType.Int64).requires_grad_(), Throws.InstanceOf<ExternalException>());
        Assert.That(() => ones(1).sum().backward(), Throws.InstanceOf<ExternalException>());
    }

    [Test]
    public void A_detached_tensor_is_a_constant()
    {
        var x = full([2], 3.0).requires_grad_();
        (x * x.detach()).sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 3, 3 }));
    }

    [Test]
    public void A_value_needed_for_a_gradient_is_not_changed_unseen()
    {
        var x = ones(2, requires_grad: true);
        var y = x * 1;
        var z = y * y;
        _ = y.add_(1);
        Assert.That(() => z.sum().backward(), Throws.InstanceOf<ExternalException>().With.Message.Contains("modified by an inplace operation"));
    }

    [Test]
    public void Results_of_the_steps_may_be_disposed_before_the_gradient_is_taken()
    {
        var x = full([3], 2.0).requires_grad_();
        Tensor loss;
        using (NewDisposeScope())
        {
            var y = x * x;
            loss = (y * y).sum().MoveToOuterDisposeScope();
        }

        loss.backward();
        Assert.That(x.grad!.Values(), Is.All.EqualTo(32));
    }
}
