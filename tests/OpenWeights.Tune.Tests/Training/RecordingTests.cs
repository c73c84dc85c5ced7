using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Recording;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>What a run leaves for people to look at.</summary>
public sealed class RecordingTests
{
    [Test]
    public void TensorBoards_events_hold_what_metrics_jsonl_holds()
    {
        using var folder = new TemporaryFolder();
        var listener = Train(folder, static c => c);
        var file = Directory.GetFiles(folder.At("run"), "events.out.tfevents.*").Single();
        var events = ReadEvents(File.ReadAllBytes(file));
        Assert.That(events[0].Version, Is.EqualTo("brain.Event:2"));
        Assert.That(events.SelectMany(static e => e.Values.Where(static v => v.Tag == "train/loss").Select(v => (e.Step, v.Value))), Is.EqualTo(listener.Steps.Select(static s => (s.Step, (float)s.Loss))));
        Assert.That(events.SelectMany(static e => e.Values.Where(static v => v.Tag == "eval/loss").Select(v => (e.Step, v.Value))), Is.EqualTo(listener.Evaluations.Select(static s => (s.Step, (float)s.Loss))));
        Assert.That(events.SelectMany(static e => e.Values.Select(static v => v.Tag)).Distinct(), Is.SupersetOf(new[] { "train/learning_rate", "train/grad_norm", "train/tokens_per_second", "train/peak_memory_bytes" }));
    }

    [Test]
    public void A_report_stands_alone_and_shows_the_curves_and_the_config()
    {
        using var folder = new TemporaryFolder();
        _ = Train(folder, static c => c);
        var page = File.ReadAllText(folder.At("run", "report.html"));
        Assert.That(page, Does.Not.Contain("<script").And.Not.Contain("http").And.Not.Contain("@import").And.Not.Contain("url("), "nothing is fetched");
        foreach (var title in new[] { "Loss", "Learning rate", "Gradient norm before clipping", "Tokens a second", "Most memory of the process, bytes", "Eval token accuracy" })
        {
            Assert.That(page, Does.Contain($"<figcaption>{title}</figcaption>"));
        }

        Assert.That(page, Does.Contain("finished").And.Contain("lr_scheduler: cosine").And.Contain("torch_version").And.Contain("16 rows"));
        Assert.That(page.Split("<polyline").Length - 1, Is.EqualTo(7));
    }

    [Test]
    public void A_report_escapes_what_rows_and_models_say()
    {
        using var folder = new TemporaryFolder();
        const string nasty = "<script>alert(\"&\")</script>";
        var sample = new JsonObject { ["step"] = 0, ["when"] = "before training", ["prompt"] = nasty, ["expected"] = nasty, ["given"] = nasty };
        RunPlan plan;
        using (var run = TrainingRun.Prepare(Config(folder), new SilentListener()))
        {
            plan = run.Plan;
        }

        RunReport.Write(folder.At("report.html"), new ReportContent(plan, nasty, [], [sample], nasty, nasty));
        Assert.That(File.ReadAllText(folder.At("report.html")), Does.Not.Contain("<script").And.Contain("&lt;script&gt;"));
    }

    [Test]
    public void The_best_weights_are_kept_and_a_run_that_gets_worse_ends_early()
    {
        using var folder = new TemporaryFolder();
        var listener = Train(folder, static c => c with
        {
            Training = c.Training with { MaxSteps = 200, LearningRate = 0.05, LrScheduler = "constant" },
            Evaluation = new EvaluationSection { EverySteps = 4, KeepBest = true, EarlyStoppingPatience = 3 },
        });
        Assert.That(listener.Steps, Has.Count.LessThan(200), "random rows cannot be learned for long");
        var best = listener.Evaluations.MinBy(static e => e.Loss)!;
        Assert.That(listener.Evaluations.Count(e => e.Step > best.Step), Is.EqualTo(3));
        Assert.That(listener.Warnings, Has.One.Contains($"step {best.Step}"));
        Assert.That(Directory.Exists(folder.At("run", "adapter")), "an early end is an end");
        var result = listener.Result!;
        Assert.That((result.Step, result.LastStep, result.BestStep), Is.EqualTo((best.Step, listener.Steps[^1].Step, (long?)best.Step)), "the result is the best one");
        Assert.That(File.ReadAllBytes(folder.At("run", "adapter", "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(folder.At("run", "best", "adapter_model.safetensors"))));
        Assert.That(File.ReadAllText(folder.At("run", "report.html")), Does.Contain($"the adapter is that of step {best.Step} of {result.LastStep}"));
        var manifest = JsonNode.Parse(File.ReadAllText(folder.At("run", "manifest.json")))!["result"]!;
        Assert.That((manifest["folder"]!.ToString(), manifest["step"]!.GetValue<long>(), manifest["last_step"]!.GetValue<long>()), Is.EqualTo(("adapter", best.Step, result.LastStep)));
        using var again = TrainingRun.Prepare(Config(folder) with { OutputDir = folder.At("again"), Adapter = new AdapterSection { Path = folder.At("run", "best") }, Training = new TrainingSection { MaxSteps = 1, LearningRate = 0 } }, listener);
        _ = again.Run(overwrite: false, "test", CancellationToken.None);
        Assert.That(listener.Evaluations[^1].Loss, Is.EqualTo(best.Loss).Within(1e-6), "best holds the weights of the best evaluation");
    }

    [TestCase(true, "are in best")]
    [TestCase(false, "evaluation.keep_best would have kept")]
    public void The_result_is_of_the_end_where_that_is_wanted_and_it_is_said_where_the_best_one_is(bool keepBest, string where)
    {
        using var folder = new TemporaryFolder();
        var listener = Train(folder, c => c with
        {
            Adapter = null,
            Training = c.Training with { MaxSteps = 16, LearningRate = 0.05, LrScheduler = "constant" },
            Evaluation = new EvaluationSection { EverySteps = 4, KeepBest = keepBest, Result = "last" },
        });
        var result = listener.Result!;
        Assert.That(result.BestStep, Is.LessThan(16), "random rows are soon learned by heart");
        Assert.That(result.Step, Is.EqualTo(16));
        Assert.That(result.Choice, Does.Contain("the model is that of the last step, 16").And.Contain($"step {result.BestStep}").And.Contain(where));
        Assert.That(Directory.Exists(folder.At("run", "best")), Is.EqualTo(keepBest));
    }

    [Test]
    public void A_run_that_is_taken_up_after_its_last_step_has_the_same_result()
    {
        using var folder = new TemporaryFolder();
        RunConfig Change(RunConfig c) => c with
        {
            Training = c.Training with { MaxSteps = 12, LearningRate = 0.05, LrScheduler = "constant" },
            Evaluation = new EvaluationSection { EverySteps = 4, KeepBest = true },
            Checkpoint = new CheckpointSection { EverySteps = 4 },
        };
        var first = Train(folder, Change).Result!;
        var weights = File.ReadAllBytes(folder.At("run", "adapter", "adapter_model.safetensors"));
        Directory.Delete(folder.At("run", "adapter"), recursive: true);
        using var again = TrainingRun.Prepare(Change(Config(folder)), new SilentListener(), new RunOptions(Resume: true));
        _ = again.Run(overwrite: false, "test", CancellationToken.None);
        Assert.That(again.Result!.Step, Is.EqualTo(first.Step).And.LessThan(12));
        Assert.That(File.ReadAllBytes(folder.At("run", "adapter", "adapter_model.safetensors")), Is.EqualTo(weights));
    }

    private static SilentListener Train(TemporaryFolder folder, Func<RunConfig, RunConfig> change)
    {
        var listener = new SilentListener();
        using var run = TrainingRun.Prepare(change(Config(folder)), listener);
        Assert.That(run.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
        listener.Result = run.Result;
        return listener;
    }

    private static RunConfig Config(TemporaryFolder folder)
    {
        if (!Directory.Exists(folder.At("model")))
        {
            TinyModel.Write(folder);
            TinyModel.WriteRows(folder, 16);
            TinyModel.WriteRows(folder, 6, "eval.jsonl", seed: 8);
        }

        return new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("model"), Device = TestDevice.Name },
            Adapter = new AdapterSection { Rank = 4, LoraAlpha = 8 },
            Data = new DataSection { Train = [new DataSource { Path = folder.At("rows.jsonl") }], Eval = [new DataSource { Path = folder.At("eval.jsonl") }], Packing = false },
            Training = new TrainingSection { MaxSteps = 6, WarmupSteps = 1, LearningRate = 5e-3 },
            Evaluation = new EvaluationSection { EverySteps = 3 },
        };
    }

    private sealed record Event(long Step, string? Version, List<(string Tag, float Value)> Values);

    // A reader of its own: tensorflow's record format with a CRC-32C by the bit, and the fields of event.proto.
    private static List<Event> ReadEvents(byte[] file)
    {
        var events = new List<Event>();
        for (var at = 0; at < file.Length;)
        {
            var length = (int)BinaryPrimitives.ReadInt64LittleEndian(file.AsSpan(at));
            Assert.That(BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at + 8)), Is.EqualTo(Masked(file.AsSpan(at, 8))), "checksum of the length");
            var data = file.AsSpan(at + 12, length);
            Assert.That(BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at + 12 + length)), Is.EqualTo(Masked(data)), "checksum of the event");
            var found = new Event(0, null, []);
            foreach (var (field, number, bytes) in Fields(data.ToArray()))
            {
                found = field switch
                {
                    2 => found with { Step = number },
                    3 => found with { Version = Encoding.UTF8.GetString(bytes) },
                    5 => found with { Values = [.. Fields(bytes).Select(static v => Fields(v.Bytes)).Select(static v => (Encoding.UTF8.GetString(v[0].Bytes), BitConverter.ToSingle(v[1].Bytes)))] },
                    _ => found,
                };
            }

            events.Add(found);
            at += 16 + length;
        }

        return events;
    }

    private static List<(int Field, long Number, byte[] Bytes)> Fields(byte[] message)
    {
        var fields = new List<(int, long, byte[])>();
        var at = 0;
        long Varint()
        {
            var number = 0L;
            for (var shift = 0; ; shift += 7)
            {
                number |= (long)(message[at] & 0x7f) << shift;
                if (message[at++] < 0x80)
                {
                    return number;
                }
            }
        }

        byte[] Take(int count)
        {
            at += count;
            return message[(at - count)..at];
        }

        while (at < message.Length)
        {
            var key = (int)Varint();
            fields.Add((key & 7) switch
            {
                0 => (key >> 3, Varint(), []),
                1 => (key >> 3, 0, Take(8)),
                2 => (key >> 3, 0, Take((int)Varint())),
                _ => (key >> 3, 0, Take(4)),
            });
        }

        return fields;
    }

    private static uint Masked(ReadOnlySpan<byte> bytes)
    {
        var crc = ~0u;
        foreach (var b in bytes)
        {
            crc ^= b;
            for (var i = 0; i < 8; i++)
            {
                crc = (crc >> 1) ^ ((crc & 1) * 0x82F63B78);
            }
        }

        crc = ~crc;
        return ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
    }
}
