using System.Runtime.InteropServices;
using NUnit.Framework;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace OpenWeights.LibTorch.Tests.Runtime;

/// <summary>The memory of large CPU tensors: counted, kept and used again.</summary>
public sealed class CpuMemoryTests
{
    private const long Mebi = 1 << 20;

    private static (long Live, long Peak, long Cached) Memory => LibTorchRuntime.CpuMemory;

    [SetUp]
    public void OnlyWhereThePoolIs()
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("the pool is used on Linux");
        }

        // What other tests have left to the garbage collector would go while memory is counted here.
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }

    [Test]
    public void A_large_tensor_is_counted_while_it_lives_and_kept_afterwards()
    {
        var before = Memory;
        var large = empty([10 * Mebi], dtype: ScalarType.Byte);
        Assert.That(Memory.Live - before.Live, Is.EqualTo(10 * Mebi).Within(10 * Mebi / 8));
        large.Dispose();
        Assert.That(Memory.Live, Is.EqualTo(before.Live));
        Assert.That(Memory.Cached, Is.GreaterThanOrEqualTo(10 * Mebi));
    }

    [Test]
    public void A_small_tensor_is_not_the_pools()
    {
        var before = Memory;
        using var small = empty([1000]);
        Assert.That(Memory, Is.EqualTo(before));
    }

    [Test]
    public void A_view_keeps_its_memory()
    {
        var before = Memory.Live;
        var large = ones([Mebi]);
        var view = large.narrow(0, 5, 1);
        large.Dispose();
        Assert.That(Memory.Live, Is.GreaterThan(before));
        Assert.That(view.ToSingle(), Is.EqualTo(1));
        view.Dispose();
        Assert.That(Memory.Live, Is.EqualTo(before));
    }

    [Test]
    public void The_peak_is_the_most_at_once_since_it_was_reset()
    {
        LibTorchRuntime.ResetCpuPeak();
        var before = Memory;
        Assert.That(before.Peak, Is.EqualTo(before.Live));
        for (var i = 0; i < 3; i++)
        {
            using var a = empty([8 * Mebi], dtype: ScalarType.Byte);
            using var b = empty([4 * Mebi], dtype: ScalarType.Byte);
        }

        Assert.That(Memory.Peak - before.Peak, Is.EqualTo(12 * Mebi).Within(12 * Mebi / 8));
        Assert.That(Memory.Live, Is.EqualTo(before.Live));
    }

    [Test]
    public void The_same_step_again_asks_the_system_for_nothing()
    {
        using var weight = (Meaning.Reading.Mixed(ScalarType.Float32, 512, 512) * 0.05).requires_grad_();
        Step(weight);
        var first = Memory;
        for (var i = 0; i < 20; i++)
        {
            Step(weight);
            Assert.That(Memory.Live, Is.EqualTo(first.Live));
            Assert.That(Memory.Cached, Is.LessThanOrEqualTo(first.Cached), $"step {i}");
        }
    }

    [Test]
    public void Steps_of_different_lengths_share_the_same_memory()
    {
        using var weight = (Meaning.Reading.Mixed(ScalarType.Float32, 512, 512) * 0.05).requires_grad_();
        LibTorchRuntime.ResetCpuPeak();
        var held = Memory.Live + Memory.Cached;
        var random = new Random(2);
        for (var i = 0; i < 30; i++)
        {
            Step(weight, random.Next(900, 1200));
            var (live, peak, cached) = Memory;
            Assert.That(live + cached, Is.LessThanOrEqualTo(Math.Max(held, peak + Math.Max(peak / 4, 32 * Mebi))), $"step {i}");
        }
    }

    [Test]
    public void A_tensor_that_grows_step_by_step_does_not_leave_its_old_memory_behind()
    {
        LibTorchRuntime.ResetCpuPeak();
        var grown = ones([300, 1000]);
        using var more = ones([2, 1000]);
        for (var i = 0; i < 300; i++)
        {
            var next = cat([grown, more]);
            grown.Dispose();
            grown = next;
        }

        var (live, peak, cached) = Memory;
        grown.Dispose();
        Assert.That(live + cached, Is.LessThanOrEqualTo(peak + (64 * Mebi)));
    }

    [Test]
    public void A_thousand_steps_leave_no_memory_behind()
    {
        using var weight = (Meaning.Reading.Mixed(ScalarType.Float32, 256, 300) * 0.05).requires_grad_();
        using var x = ones(300, 300);
        void Small()
        {
            using var scope = NewDisposeScope();
            F.silu(F.linear(x, weight)).sum().backward();
            weight.grad = null;
        }

        Small();
        var (tensors, live) = (Tensor.TotalCount, Memory.Live);
        for (var i = 0; i < 1000; i++)
        {
            Small();
        }

        Assert.That((Tensor.TotalCount, Memory.Live), Is.EqualTo((tensors, live)));
    }

    [Test]
    public void Memory_is_aligned_for_vectors()
    {
        using var scope = NewDisposeScope();
        foreach (var size in new long[] { 1, 3, 1000, 65_537, 300_001, 5_000_001 })
        {
            ref var first = ref MemoryMarshal.GetReference(empty([size], dtype: ScalarType.Byte).bytes);
            Assert.That(Address(ref first) % 64, Is.Zero, $"{size} bytes");
        }
    }

    [Test]
    public void Odd_sizes_from_many_threads_do_not_overlap_and_all_come_back()
    {
        var before = Memory.Live;
        var wrong = 0;
        var threads = Enumerable.Range(0, 4).Select(number => new Thread(() =>
        {
            var random = new Random(number);
            var held = new List<(Tensor Tensor, byte Mark)>();
            for (var i = 0; i < 400; i++)
            {
                if (held.Count > 12 || (held.Count > 0 && random.Next(2) == 0))
                {
                    var at = random.Next(held.Count);
                    var (tensor, mark) = held[at];
                    held.RemoveAt(at);
                    if (tensor.bytes.IndexOfAnyExcept(mark) >= 0)
                    {
                        _ = Interlocked.Increment(ref wrong);
                    }

                    tensor.Dispose();
                }
                else
                {
                    var size = random.NextInt64(1, random.Next(4) == 0 ? 6 * Mebi : Mebi);
                    var made = empty([size], dtype: ScalarType.Byte);
                    var mark = (byte)random.Next(256);
                    made.bytes.Fill(mark);
                    held.Add((made, mark));
                }
            }

            held.ForEach(static pair => pair.Tensor.Dispose());
        })).ToArray();
        Array.ForEach(threads, static t => t.Start());
        Array.ForEach(threads, static t => t.Join());
        Assert.That((wrong, Memory.Live), Is.EqualTo((0, before)));
    }

    [Test]
    public void What_is_kept_stays_near_the_most_that_was_in_use()
    {
        // What earlier tests left in the pool may stay; it must not grow.
        LibTorchRuntime.ResetCpuPeak();
        var (liveBefore, _, cachedBefore) = Memory;
        var random = new Random(3);
        for (var i = 0; i < 200; i++)
        {
            // A new size each time fits no block that is kept.
            using var one = empty([(2 * Mebi) + (i * 40_000L)], dtype: ScalarType.Byte);
            using var other = empty([random.NextInt64(Mebi, 9 * Mebi)], dtype: ScalarType.Byte);
            var (live, peak, cached) = Memory;
            Assert.That(live + cached, Is.LessThanOrEqualTo(Math.Max(liveBefore + cachedBefore, Math.Max(peak + (peak / 4), peak + (64 * Mebi)))));
        }
    }

    [Test]
    public void Gaps_between_tensors_do_not_add_to_what_is_held()
    {
        LibTorchRuntime.ResetCpuPeak();
        var (liveBefore, _, cachedBefore) = Memory;
        for (var round = 0; round < 3; round++)
        {
            var many = Enumerable.Range(0, 24).Select(static i => empty([(8 + (i % 3)) * Mebi], dtype: ScalarType.Byte)).ToList();
            for (var i = 0; i < many.Count; i += 2)
            {
                many[i].Dispose();
            }

            // As large as all gaps together, and fits none of them.
            using var large = ones([24 * Mebi], dtype: float32);
            var (live, peak, cached) = Memory;
            Assert.That(live + cached, Is.LessThanOrEqualTo(Math.Max(liveBefore + cachedBefore, peak) + (32 * Mebi)), $"round {round}");
            Assert.That(large.sum().ToSingle(), Is.EqualTo(24 * Mebi), "what went back to the system is not what is in use");
            many.ForEach(static t => t.Dispose());
        }
    }

    [Test]
    public void What_is_in_use_keeps_its_values_while_gaps_go_back()
    {
        var random = new Random(5);
        var held = new List<(Tensor Tensor, byte Mark)>();
        for (var i = 0; i < 300; i++)
        {
            if (held.Count > 10 || (held.Count > 4 && random.Next(2) == 0))
            {
                var at = random.Next(held.Count);
                var (tensor, mark) = held[at];
                held.RemoveAt(at);
                Assert.That(tensor.bytes.IndexOfAnyExcept(mark), Is.LessThan(0), $"tensor {i}");
                tensor.Dispose();
            }
            else
            {
                var made = empty([random.NextInt64(Mebi, 12 * Mebi)], dtype: ScalarType.Byte);
                made.bytes.Fill((byte)i);
                held.Add((made, (byte)i));
            }
        }

        held.ForEach(static pair => pair.Tensor.Dispose());
    }

    [Test]
    public void Libraries_work_on_after_their_pages_were_let_go_of()
    {
        using var scope = NewDisposeScope();
        var (a, b) = (Meaning.Reading.Mixed(ScalarType.Float32, 64, 64), Meaning.Reading.Mixed(ScalarType.Float32, 64, 64));
        var before = a.mm(b);
        Native.NativeMethods.owt_drop_start_pages();
        Assert.That(a.mm(b).Equals(before));
    }

    [Test]
    public void A_zeroed_tensor_is_zero_on_used_memory()
    {
        for (var i = 0; i < 4; i++)
        {
            using var scope = NewDisposeScope();
            _ = ones([Mebi]);
            Assert.That(zeros([Mebi]).sum().ToSingle(), Is.Zero);
        }
    }

    private static void Step(Tensor weight, long length = 1024)
    {
        using var scope = NewDisposeScope();
        var hidden = ones(length, 512);
        for (var i = 0; i < 4; i++)
        {
            hidden = hidden + F.silu(F.linear(hidden, weight));
        }

        hidden.square().mean().backward();
        weight.grad = null;
    }

    private static unsafe long Address(ref byte first)
    {
        fixed (byte* at = &first)
        {
            return (long)at;
        }
    }
}
