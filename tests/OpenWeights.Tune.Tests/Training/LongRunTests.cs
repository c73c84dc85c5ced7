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
    [TestCase(true)]
    [TestCase(false)]
    public void Memory_after_a_thousand_steps_is_what_it_was_after_a_hundred(bool adapter)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 16);
        var after = new Dictionary<long, MemoryInUse>();
        var listener = new SilentListener
        {
            OnStep = step =>
            {
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
            run.Run(resume: false, overwrite: false, "test", CancellationToken.None);
        }

        var (early, late) = (after[100], after[1000]);
        TestContext.Out.WriteLine($"{early}\n{late}");
        Assert.Multiple(() =>
        {
            Assert.That(late.Tensors, Is.LessThanOrEqualTo(early.Tensors));
            Assert.That(late.LargeBytes, Is.LessThanOrEqualTo(early.LargeBytes));

            // A tensor of nothing takes more than 200 bytes: one left behind a step would be found. The model's own lie in this heap.
            Assert.That(late.HeapBytes - early.HeapBytes, Is.LessThan(900 * 200));
            Assert.That(early.HeapBytes, NativeHeap.CanTell ? Is.GreaterThan(50_000) : Is.Zero);

            // The listener keeps 900 steps' metrics; code that is compiled again comes on top of what the process holds.
            Assert.That(late.ManagedBytes - early.ManagedBytes, Is.LessThan(900 * 1000));
            Assert.That(late.ProcessBytes - early.ProcessBytes, Is.LessThan(24 << 20));
        });
    }

    /// <summary>
    /// Tensors alive, the bytes of large CPU tensors, of the C library's heap (where TorchSharp's package has all the others), of the collected
    /// heap, and what the process holds of physical memory.
    /// </summary>
    private sealed record MemoryInUse(long Tensors, long LargeBytes, long HeapBytes, long ManagedBytes, long ProcessBytes)
    {
        internal static MemoryInUse Now()
        {
            var managed = GC.GetTotalMemory(forceFullCollection: true);
            return new MemoryInUse(Tensor.TotalCount, CpuMemory.Statistics?.Live ?? 0, NativeHeap.InUse, managed, Environment.WorkingSet);
        }
    }
}
