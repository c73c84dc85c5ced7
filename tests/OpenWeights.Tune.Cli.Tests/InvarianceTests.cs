using System.Text.Json.Nodes;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Settings that must not change what is learned share one trajectory, through the command line.</summary>
public sealed class InvarianceTests
{
    [Test]
    public void Eight_rows_at_once_are_eight_accumulated_ones_are_packed_rows()
    {
        // Eight rows, so that every step has all of them however they are laid out.
        using var work = new Workspace("max_steps: 8, warmup_steps: 2, learning_rate: 1.0e-2, weight_decay: 0.1", rows: 8, dropout: "0.0");
        double[] Trajectory(string name, params string[] settings)
        {
            Owt.Run(work.Root, 0, ["train", "train.yaml", $"output_dir={name}", "checkpoint.every_steps=0", .. settings]);
            return [.. File.ReadLines(work.At(name, "metrics.jsonl")).Select(static l => JsonNode.Parse(l)!).SelectMany(static l => new[] { l["loss"]!.GetValue<double>(), l["grad_norm"]!.GetValue<double>() })];
        }

        var together = Trajectory("together", "training.micro_batch_size=8");
        Assert.That(together, Has.Length.EqualTo(16));
        Assert.That(together[^2], Is.LessThan(together[0] - 0.05), "the run learns");
        Assert.That(Trajectory("accumulated", "training.micro_batch_size=1", "training.gradient_accumulation_steps=8"), Is.EqualTo(together).Within(3e-6));
        Assert.That(Trajectory("packed", "training.micro_batch_size=8", "data.packing=true", "data.max_length=40"), Is.EqualTo(together).Within(3e-6));
        Assert.That(Trajectory("recomputed", "training.micro_batch_size=8", "training.activation_checkpointing=true"), Is.EqualTo(together), "to the bit");
        Assert.That(Trajectory("partly", "training.micro_batch_size=8", "training.activation_checkpointing=selective"), Is.EqualTo(together), "to the bit");
    }
}
