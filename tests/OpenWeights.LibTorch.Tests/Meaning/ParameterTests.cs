using NUnit.Framework;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class ParameterTests
{
    [Test]
    public void A_parameter_takes_the_tensors_memory_and_leaves_it_empty()
    {
        var data = ones(3);
        using var parameter = new Parameter(data);
        Assert.That(data.IsInvalid, Is.True);
        Assert.That(parameter.Values(), Is.EqualTo(new double[] { 1, 1, 1 }));
        Assert.That((parameter.requires_grad, parameter.is_leaf), Is.EqualTo((true, true)));
    }

    [Test]
    public void A_frozen_parameter_wants_no_gradient()
    {
        using var parameter = new Parameter(ones(3, dtype: ScalarType.BFloat16), requires_grad: false);
        Assert.That((parameter.requires_grad, parameter.dtype), Is.EqualTo((false, ScalarType.BFloat16)));
        parameter.requires_grad = true;
        Assert.That(parameter.requires_grad, Is.True);
    }

    [Test]
    public void A_parameter_takes_its_tensors_place_in_the_scope()
    {
        Parameter inside, detached, outside;
        var made = ones(1);
        using (var scope = NewDisposeScope())
        {
            inside = new Parameter(ones(1));
            detached = new Parameter(ones(1).DetachFromDisposeScope());
            outside = new Parameter(made);
            Assert.That((scope.Contains(inside), scope.Contains(detached), scope.Contains(outside), scope.DisposablesCount), Is.EqualTo((true, false, false, 1)));
        }

        Assert.That((inside.IsInvalid, detached.IsInvalid, outside.IsInvalid), Is.EqualTo((true, false, false)));
        detached.Dispose();
        outside.Dispose();
    }

    [Test]
    public void What_is_computed_from_a_parameter_is_a_plain_tensor()
    {
        using var scope = NewDisposeScope();
        var parameter = new Parameter(ones(2));
        Assert.That(parameter.to(ScalarType.BFloat16), Is.Not.InstanceOf<Parameter>());
        Assert.That(parameter.detach(), Is.Not.InstanceOf<Parameter>());
        Assert.That(parameter.requires_grad_(false), Is.SameAs(parameter));
    }

    [Test]
    public void The_values_change_in_place_without_recording()
    {
        using var scope = NewDisposeScope();
        var parameter = new Parameter(ones(2));
        Assert.That(() => parameter.add_(1), Throws.InstanceOf<System.Runtime.InteropServices.ExternalException>());
        using (no_grad())
        {
            _ = parameter.add_(1);
        }

        Assert.That((parameter.requires_grad, parameter.is_leaf), Is.EqualTo((true, true)));
        Assert.That(parameter.Values(), Is.EqualTo(new double[] { 2, 2 }));
    }
}
