using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch.Memory;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>A long run takes no more memory than a short one.</summary>
public sealed class LongRunTests
{
    private const int StepsApart = 50;

    // What libtorch keeps about the smallest tensor, without its numbers.
    private const int BytesOfATensor = 200;

    [TestCase(true)]
    [TestCase(false)]
    public void Memory_after_a_thousand_steps_is_what_it_was_after_a_hundred(bool adapter)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 16);
        var after = new Dictionary<long, MemoryInUse>();
        var heap = new List<long>();
        var listener = new SilentListener
        {
            OnStep = step =>
            {
                if (step.Step >= 100 && step.Step % StepsApart == 0)
                {
                    heap.Add(NativeHeap.InUse);
                }

                if (step.Step is 100 or 1000)
                {
                    after[step.Step] = MemoryInUse.Now();
                }
            },
        };
        var config = new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = adapter ? new AdapterSection { Rank = 4 } : null,
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], MaxLength = 64, Packing = false },
            Training = new TrainingSection { MaxSteps = 1000, MicroBatchSize = 2 },
            Checkpoint = new CheckpointSection { EverySteps = 0 },
        };
        using (var run = TrainingRun.Prepare(config, listener))
        {
            run.Run(overwrite: false, "test", CancellationToken.None);
        }

        var (early, late) = (after[100], after[1000]);
        TestContext.Out.WriteLine($"{early}\n{late}\nthe C library's heap grew by {Growth(heap)} bytes in {StepsApart} steps");
        Assert.Multiple(() =>
        {
            Assert.That(late.Tensors, Is.LessThanOrEqualTo(early.Tensors));
            Assert.That(late.LargeBytes, Is.LessThanOrEqualTo(early.LargeBytes));
            Assert.That(Growth(heap), Is.LessThan(StepsApart * BytesOfATensor), "not one small tensor a step, nor what is no tensor");

            // The listener keeps 900 steps' metrics; code that is compiled again comes on top of what the process holds.
            Assert.That(late.ManagedBytes - early.ManagedBytes, Is.LessThan(900 * 1000));
            Assert.That(late.ProcessBytes - early.ProcessBytes, Is.LessThan(24 << 20));
        });
    }

    [Test]
    public void One_small_tensor_left_behind_a_step_would_be_seen()
    {
        if (!NativeHeap.CanTell)
        {
            Assert.Ignore("the C library of this machine does not tell what is in use");
        }

        using var scope = NewDisposeScope();
        var heap = new List<long>();
        for (var step = 0; step <= 20 * StepsApart; step++)
        {
            _ = empty([1]);
            if (step % StepsApart == 0)
            {
                heap.Add(NativeHeap.InUse);
            }
        }

        Assert.That(Growth(heap), Is.GreaterThan(StepsApart * BytesOfATensor));
    }

    // Between two looks as a rule: .NET itself takes and returns megabytes of this heap now and then, and a leak is there every time.
    private static long Growth(List<long> heap) => heap.Zip(heap.Skip(1), static (before, after) => after - before).Order().ElementAt((heap.Count - 1) / 2);

    /// <summary>Tensors alive, the bytes of large CPU tensors, of the collected heap, and what the process holds of physical memory.</summary>
    private sealed record MemoryInUse(long Tensors, long LargeBytes, long ManagedBytes, long ProcessBytes)
    {
        internal static MemoryInUse Now()
        {
            var managed = GC.GetTotalMemory(forceFullCollection: true);
            return new MemoryInUse(Tensor.TotalCount, CpuMemory.Statistics?.Live ?? 0, managed, Environment.WorkingSet);
        }
    }
}
