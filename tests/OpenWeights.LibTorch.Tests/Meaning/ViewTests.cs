using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

public sealed class ViewTests
{
    private DisposeScope _scope = null!;
    private Tensor _six = null!;

    [SetUp]
    public void Open()
    {
        _scope = NewDisposeScope();
        _six = arange(6).to(ScalarType.Float32).view(2, 3);
    }

    [TearDown]
    public void Close()
    {
        _six.Dispose();
        _scope.Dispose();
    }

    [Test]
    public void A_tensor_that_is_set_to_another_is_a_view_of_it_with_its_shape()
    {
        var tensor = zeros(1);
        Assert.That(tensor.set_(_six.narrow(0, 1, 1)), Is.SameAs(tensor));
        Assert.That((tensor.shape, tensor.Values()), Is.EqualTo((new long[] { 1, 3 }, new double[] { 3, 4, 5 })));
        _ = tensor.zero_();
        Assert.That(_six.Values(), Is.EqualTo(new double[] { 0, 1, 2, 0, 0, 0 }));
    }

    [Test]
    public void A_tensor_on_the_CPU_has_no_index_of_a_device() => Assert.That(_six.device_index, Is.EqualTo(-1));

    [Test]
    public void A_view_shares_memory_and_a_clone_does_not()
    {
        var views = new Dictionary<string, Tensor>
        {
            ["view"] = _six.view(3, 2),
            ["reshape"] = _six.reshape(6),
            ["transpose"] = _six.transpose(0, 1),
            ["permute"] = _six.permute(1, 0),
            ["t"] = _six.t(),
            ["narrow"] = _six.narrow(0, 0, 2),
            ["select"] = _six.select(0, 0),
            ["unsqueeze"] = _six.unsqueeze(0),
            ["squeeze"] = _six.unsqueeze(0).squeeze(0),
            ["unflatten"] = _six.unflatten(1, 3, 1),
            ["expand"] = _six.unsqueeze(0).expand(4, 2, 3),
            ["split"] = _six.split(1)[0],
            ["chunk"] = _six.chunk(2)[0],
            ["detach"] = _six.detach(),
            ["alias"] = _six.alias(),
            ["as_strided"] = _six.as_strided([2, 2], [3, 1]),
            ["contiguous"] = _six.contiguous(),
        };
        var copies = new Dictionary<string, Tensor>
        {
            ["clone"] = _six.clone(),
            ["contiguous"] = _six.t().contiguous(),
            ["reshape"] = _six.t().reshape(6),
            ["index_select"] = _six.index_select(0, tensor(new long[] { 0, 1 })),
        };
        _ = _six.fill_(7);
        foreach (var (name, view) in views)
        {
            Assert.That(view.Values(), Is.All.EqualTo(7), name);
        }

        foreach (var (name, copy) in copies)
        {
            Assert.That(copy.Values(), Is.Not.All.EqualTo(7), name);
        }
    }

    [Test]
    public void Shapes_and_strides_are_as_asked_for()
    {
        Assert.That(_six.stride(), Is.EqualTo(new long[] { 3, 1 }));
        Assert.That(_six.t().stride(), Is.EqualTo(new long[] { 1, 3 }));
        Assert.That(_six.t().is_contiguous(), Is.False);
        Assert.That(_six.t().contiguous().is_contiguous(), Is.True);
        Assert.That(_six.unsqueeze(1).expand(2, 4, 3).stride(), Is.EqualTo(new long[] { 3, 0, 1 }));
        Assert.That(_six.select(0, 1).storage_offset(), Is.EqualTo(3));
        Assert.That(_six.view(-1, 2).shape, Is.EqualTo(new long[] { 3, 2 }));
        Assert.That(_six.size(-1), Is.EqualTo(3));
        Assert.That(_six.size(0), Is.EqualTo(2));
        Assert.That(_six.stride(1), Is.EqualTo(1));
        Assert.That(_six.size(), Is.EqualTo(_six.shape));
        Assert.That((_six.ndim, _six.numel(), _six.NumberOfElements, _six.element_size()), Is.EqualTo((2L, 6L, 6L, 4L)));
        Assert.That(_six.view(1, 2, 3).squeeze().shape, Is.EqualTo(new long[] { 2, 3 }));
        Assert.That(_six.view(1, 2, 3).squeeze(1).shape, Is.EqualTo(new long[] { 1, 2, 3 }));
    }

    [Test]
    public void Parts_come_in_order()
    {
        Assert.That(_six.split(2, 1).Select(static t => t.size(1)), Is.EqualTo(new long[] { 2, 1 }));
        Assert.That(_six.split([1, 2], 1)[1].Values(), Is.EqualTo(new double[] { 1, 2, 4, 5 }));
        Assert.That(_six.chunk(3, 1)[2].Values(), Is.EqualTo(new double[] { 2, 5 }));
        Assert.That(_six.narrow(1, 1, 2).Values(), Is.EqualTo(new double[] { 1, 2, 4, 5 }));
    }

    [Test]
    public void Pieces_are_joined_and_repeated()
    {
        Assert.That(cat([_six, _six], 1).shape, Is.EqualTo(new long[] { 2, 6 }));
        Assert.That(stack([_six, _six]).shape, Is.EqualTo(new long[] { 2, 2, 3 }));
        Assert.That(_six.select(0, 0).repeat_interleave(2).Values(), Is.EqualTo(new double[] { 0, 0, 1, 1, 2, 2 }));
        Assert.That(_six.repeat_interleave(2, 0).Values(), Is.EqualTo(new double[] { 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5 }));
    }

    [Test]
    public void An_in_place_change_through_a_view_reaches_the_gradient()
    {
        var x = ones(4, requires_grad: true);
        var y = x * 1;
        _ = y.view(2, 2).select(0, 0).mul_(3);
        y.sum().backward();
        Assert.That(x.grad!.Values(), Is.EqualTo(new double[] { 3, 3, 1, 1 }));
    }
}
