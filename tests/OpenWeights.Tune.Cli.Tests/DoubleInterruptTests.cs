using System.Globalization;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Ctrl-C twice, while native threads compute.</summary>
public sealed class DoubleInterruptTests
{
    [Test]
    public void Two_interrupts_at_any_moment_of_training_end_with_130_and_nothing_else()
    {
        // OWT_TEST_INTERRUPTS=200 for many; a few otherwise, since each takes a start of the program.
        var rounds = int.Parse(Environment.GetEnvironmentVariable("OWT_TEST_INTERRUPTS") ?? "6", CultureInfo.InvariantCulture);
        using var work = new Workspace("max_steps: 1000, micro_batch_size: 600, warmup_steps: 2", rows: 2400);
        var random = new Random(7);
        var atOnce = 0;
        for (var i = 0; i < rounds; i++)
        {
            var stopped = Owt.Start(work.Root, "train", "train.yaml", "checkpoint.every_steps=0", "--overwrite");
            stopped.WaitForError("step 1/1000");
            Thread.Sleep(random.Next(500));
            stopped.Signal("INT");
            Thread.Sleep(random.Next(1, 40));
            stopped.TrySignal("INT");
            Assert.That(stopped.WaitForExit(), Is.EqualTo(130), $"round {i}\n{stopped.Error}");
            Assert.That(stopped.Error, Does.Contain("stopping after this step").And.Not.Contain("error:"));
            atOnce += stopped.Error.Contains("stopped at once", StringComparison.Ordinal) ? 1 : 0;
        }

        TestContext.Out.WriteLine($"{rounds} runs, {atOnce} of them stopped at once");
        Assert.That(atOnce, Is.GreaterThan(rounds / 4), "the second interrupt came while a step was computed");
    }
}
