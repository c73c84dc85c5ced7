using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.LibTorch.Native;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Runtime;

/// <summary>What goes wrong in libtorch is an exception with one line, whatever TorchSharp itself makes of it.</summary>
public sealed class ErrorTests
{
    private static readonly Dictionary<string, (Action Call, string Says)> s_mistakes = new()
    {
        ["matmul of wrong shapes"] = (static () => ones(2, 3).matmul(ones(2, 3)), "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"),
        ["matmul of other types"] = (static () => ones(2, 2).matmul(ones(2, 2, dtype: ScalarType.BFloat16)), "expected scalar type"),
        ["linear of wrong shapes"] = (static () => nn.functional.linear(ones(2, 3), ones(4, 5)), "mat1 and mat2 shapes cannot be multiplied"),
        ["sum of wrong shapes"] = (static () => _ = ones(3) + ones(2), "The size of tensor a (3) must match the size of tensor b (2)"),
        ["a number out of range"] = (static () => ones(3).index_select(0, tensor(new long[] { 5 })), "out of range"),
        ["a dimension out of range"] = (static () => ones(3).sum(5), "Dimension out of range"),
        ["a shape that does not fit"] = (static () => ones(3).reshape(2), "shape '[2]' is invalid for input of size 3"),
        ["nothing to join"] = (static () => cat(Array.Empty<Tensor>()), "non-empty"),
        ["a target out of range"] = (static () => nn.functional.cross_entropy(zeros(2, 3), tensor(new long[] { 0, 7 })), "Target 7 is out of bounds"),
        ["a state of another size"] = (static () => set_rng_state(zeros(3, dtype: ScalarType.Byte)), "RNG state"),
        ["a state of another type"] = (static () => set_rng_state(zeros(5056)), "RNG state"),
        ["a change of a leaf in place"] = (static () => ones(1, requires_grad: true).add_(1), "a leaf Variable that requires grad"),
        ["more memory than there is"] = (static () => empty([1L << 50]), "out of memory: the system refused 4503599627370496 bytes"),
        ["more memory than can be counted"] = (static () => empty([1L << 62]), "overflow"),
        ["a device that is not there"] = (static () => ones(1, device: new Device("cuda:77")), ""),
    };

    private static IEnumerable<string> Mistakes => s_mistakes.Keys;

    [TestCaseSource(nameof(Mistakes))]
    public void A_mistake_is_an_exception_of_one_line(string name)
    {
        using var scope = NewDisposeScope();
        var (call, says) = s_mistakes[name];
        var error = Assert.Throws<ExternalException>(() => call())!;
        Assert.That(error.Message, Does.Contain(says));
        Assert.That(error.Message, Does.Not.Contain('\n').And.Not.Contain("Exception raised from"));
        Assert.That(error.Message.Trim(), Is.Not.Empty);
    }

    [Test]
    public void An_operator_that_this_libtorch_lacks_is_not_supported()
    {
        using var x = ones(1);
        Assert.That(() => Op.Tensor("aten::no_such_operator", x), Throws.InstanceOf<NotSupportedException>().With.Message.Contains("aten::no_such_operator").And.Message.Contains(LibTorchRuntime.Version));
        Assert.That(() => Op.Tensor("aten::add.NoSuchOverload", x, x), Throws.InstanceOf<NotSupportedException>());
    }

    [Test]
    public void Arguments_that_an_operator_does_not_take_are_an_error()
    {
        using var x = ones(1);
        Assert.That(() => Op.Tensor("aten::add.Tensor", x), Throws.InstanceOf<ExternalException>().With.Message.Contains("lacks its argument"));
        Assert.That(() => Op.Tensor("aten::relu", x, x, x), Throws.InstanceOf<ExternalException>().With.Message.Contains("takes 1 arguments, not 3"));
        Assert.That(() => Op.Tensor("aten::add.Tensor", x, 2.5), Throws.InstanceOf<ExternalException>());
    }

    [Test]
    public void Named_dimensions_are_refused()
    {
        Assert.That(() => ones(2, 3, names: ["rows", "columns"]), Throws.InstanceOf<NotSupportedException>());
    }

    [Test]
    public void A_name_that_is_no_device_is_refused()
    {
        Assert.That(() => new Device("gpu"), Throws.ArgumentException.With.Message.Contains("'gpu'"));
        Assert.That((new Device("cuda:1").index, new Device("cuda").index, new Device(DeviceType.CUDA, 2).ToString()), Is.EqualTo((1, 0, "cuda:2")));
    }
}
