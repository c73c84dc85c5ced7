using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.Tune.Tests.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>The pretend device refuses what a GPU refuses: the tests that pass on it mean something.</summary>
public sealed class DeviceTests
{
    private DisposeScope _scope = null!;

    [SetUp]
    public void Open() => _scope = NewDisposeScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void The_devices_memory_falls_with_every_layer_of_a_backward()
    {
        var seen = EightLayers.Watch(CUDA, static () => PretendDevice.MemoryInUse);
        TestContext.Out.WriteLine(string.Join(", ", seen));
        Assert.That(seen, Has.Count.EqualTo(EightLayers.Count));
        for (var i = 2; i < seen.Count; i++)
        {
            Assert.That(seen[i - 1] - seen[i], Is.GreaterThanOrEqualTo(EightLayers.Mebi), $"layer {i} of backward begins with what the one before it kept");
        }
    }

    [Test]
    public void Tensors_of_two_devices_do_not_meet()
    {
        var (here, there) = (ones([2, 2]), ones([2, 2], device: CUDA));
        foreach (var meet in new Action[]
        {
            () => there.add(here, 1),
            () => here.mm(there),
            () => nn.functional.linear(there, here),
            () => there.index_select(0, zeros([1], int64)),
            () => cat([there, here], 0),
            () => there.gather(1, zeros([2, 1], int64)),
            () => where(ones([2, 2], @bool), there, there),
            () => there.addcmul_(there, here, 1),
            () => nn.functional.cross_entropy(there, zeros([2], int64)),
        })
        {
            Assert.That(meet, Throws.InstanceOf<ExternalException>().With.Message.Contains("same device"));
        }

        Assert.That(there.mul(tensor(3f)).cpu().sum().ToDouble(), Is.EqualTo(12), "a number may come from anywhere");
    }

    [Test]
    public void Memory_cannot_be_reached_from_here()
    {
        var there = ones([1000], device: CUDA);
        Assert.That(PretendDevice.IsReadable, Is.False);
        Assert.That(() => there.bytes.Length, Throws.InvalidOperationException);
    }

    [Test]
    public void Fresh_memory_holds_no_numbers() => Assert.That(empty([100], float32, CUDA).cpu().isnan().all().ToBoolean());

    [Test]
    public void Integers_are_not_multiplied_as_matrices() =>
        Assert.That(() => ones([2, 2], int64, CUDA).mm(ones([2, 2], int64, CUDA)), Throws.InstanceOf<ExternalException>().With.Message.Contains("not implemented"));

    [Test]
    public void The_device_has_random_numbers_of_its_own()
    {
        _ = manual_seed(3);
        var alone = rand([4]);
        _ = manual_seed(3);
        _ = rand([10], device: CUDA);
        Assert.That(rand([4]).eq(alone).all().ToBoolean(), "drawing there does not change what is drawn here");
        Assert.That(() => rand([4], device: CUDA, generator: new Generator(1)), Throws.InstanceOf<ExternalException>().With.Message.Contains("'cuda' device type for generator"));
    }

    [Test]
    public void Whatever_waits_is_counted_and_what_nobody_waits_for_is_not_there_yet()
    {
        var there = arange(4, float32, CUDA);
        var before = PretendDevice.Count(PretendDevice.Counted.Waits);
        var late = there.to(CPU, non_blocking: true);
        Assert.That(late.isnan().all().ToBoolean());
        var back = late.to(CUDA, non_blocking: true);
        var pinned = ones([4]).pin_memory().to(CUDA, non_blocking: true);
        Assert.That(PretendDevice.Count(PretendDevice.Counted.Waits), Is.EqualTo(before));
        cuda.synchronize();
        Assert.That(late.sum().ToDouble(), Is.EqualTo(6));
        Assert.That(back.sum().ToDouble(), Is.EqualTo(6), "the device does one thing after the other");
        Assert.That(pinned.sum().ToDouble(), Is.EqualTo(4));
        _ = ones([4]).to(CUDA, non_blocking: true);
        Assert.That(PretendDevice.Count(PretendDevice.Counted.Waits), Is.EqualTo(before + 4), "the synchronisation, two numbers, and memory that is not pinned");
    }

    [Test]
    public void Views_share_memory_and_results_are_given_back()
    {
        var before = PretendDevice.MemoryInUse;
        using (NewDisposeScope())
        {
            var whole = zeros([4, 4], float32, CUDA);
            _ = whole.t().narrow(0, 1, 2).fill_(1);
            Assert.That(whole.sum().ToDouble(), Is.EqualTo(8));
            Assert.That(PretendDevice.MemoryInUse, Is.GreaterThan(before));
        }

        Assert.That(PretendDevice.MemoryInUse, Is.EqualTo(before));
    }
}
