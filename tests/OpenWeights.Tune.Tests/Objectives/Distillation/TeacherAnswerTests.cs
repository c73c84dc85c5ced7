using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Distillation;

/// <summary>Distillation on the teacher's own answers (seq_kd).</summary>
[Category(TestDevice.CpuAlone)]
public sealed class TeacherAnswerTests
{
    private static string Objective(ComparedRun runs, string more) => $"type: distill, teacher: '{runs.Teacher}', max_completion_length: 6, {more}";

    [TestCase("beta: 0.5")]
    [TestCase("beta: 0, teacher_top_k: 4")]
    public void It_trains_as_on_rows_that_have_the_teachers_answers(string settings)
    {
        using var runs = new ComparedRun();
        string[] inOrder = ["data.shuffle=false"];
        _ = ComparedRun.Run(runs.Config("asked", Objective(runs, $"{settings}, seq_kd: true, sampling_temperature: 0"), rows: "rows.jsonl", overrides: inOrder));
        using (var teacher = ModelLoader.Load(runs.Teacher, float32, TestDevice.Current))
        {
            _ = runs.Write("answered.jsonl", string.Concat(File.ReadLines(runs.At("rows.jsonl")).Select(line => Answered(JsonNode.Parse(line)!, new TextGenerator(teacher.Model, new GenerationOptions { MaxNewTokens = 6 })))));
        }

        _ = ComparedRun.Run(runs.Config("answered", Objective(runs, settings), rows: "answered.jsonl", overrides: inOrder));
        _ = ComparedRun.Run(runs.Config("own", Objective(runs, settings), rows: "rows.jsonl", overrides: inOrder));
        Assert.That(runs.Numbers("asked"), Is.EqualTo(runs.Numbers("answered")));
        Assert.That(runs.Numbers("asked"), Is.Not.EqualTo(runs.Numbers("own")));
    }

    [Test]
    public void Packed_rows_get_the_same_answers()
    {
        using var runs = new ComparedRun();
        string[] Settings(bool packs) => ["data.shuffle=false", "training.max_steps=1", "training.micro_batch_size=8", $"data.packing={(packs ? "true" : "false")}"];
        var plain = ComparedRun.Run(runs.Config("plain", Objective(runs, "seq_kd: true"), rows: "rows.jsonl", overrides: Settings(false)));
        var packed = ComparedRun.Run(runs.Config("packed", Objective(runs, "seq_kd: true"), rows: "rows.jsonl", overrides: Settings(true)));
        Assert.That(packed.Steps[0].TargetTokens, Is.EqualTo(plain.Steps[0].TargetTokens));
        Assert.That(packed.Steps[0].Loss, Is.EqualTo(plain.Steps[0].Loss).Within(1e-6));
        Assert.That(packed.Steps[0].GradNorm, Is.EqualTo(plain.Steps[0].GradNorm).Within(1e-5));
    }

    [Test]
    public void The_teacher_answers_once_and_later_runs_read_its_answers()
    {
        using var runs = new ComparedRun();
        (RunPlan Plan, SilentListener Listener) Run(string name, string settings, params string[] overrides)
        {
            var config = runs.Config(name, Objective(runs, $"seq_kd: true, {settings}"), rows: "rows.jsonl", overrides: overrides);
            var listener = new SilentListener();
            using var run = TrainingRun.Prepare(config, listener, new RunOptions(IgnoreMemory: true));
            var plan = run.Plan;
            _ = run.Run(overwrite: false, "test", CancellationToken.None);
            return (plan, listener);
        }

        var first = Run("first", "beta: 0.5").Plan.TeacherAnswers!;
        Assert.That(first.IsThere, Is.False);
        Assert.That(first.Rows, Is.EqualTo(8));
        var written = File.GetLastWriteTimeUtc(first.Path);
        Assert.That(Run("second", "beta: 1").Plan.TeacherAnswers, Is.EqualTo(first with { IsThere = true }));
        Assert.That(File.GetLastWriteTimeUtc(first.Path), Is.EqualTo(written));
        Assert.That(runs.Numbers("second"), Has.Count.EqualTo(runs.Numbers("first").Count));

        // Another temperature, length or seed gives other answers, and so does another teacher.
        Assert.That(Run("warm", "sampling_temperature: 0.7").Plan.TeacherAnswers!.Path, Is.Not.EqualTo(first.Path));
        Assert.That(Run("seeded", "beta: 0.5", "seed=9").Plan.TeacherAnswers!.Path, Is.Not.EqualTo(first.Path));
        Assert.That(Run("other", "beta: 0.5", $"objective.teacher={runs.At("model")}").Plan.TeacherAnswers!.Path, Is.Not.EqualTo(first.Path));

        // Without a cache the file is deleted after the run.
        var off = Run("off", "beta: 0.5", "data.cache=off").Plan.TeacherAnswers!;
        Assert.That(off.Path, Is.Not.EqualTo(first.Path));
        Assert.That(File.Exists(off.Path), Is.False);
        Assert.That(runs.Numbers("off"), Is.EqualTo(runs.Numbers("first")));

        // A file that is not whole is told, and not trained on.
        File.WriteAllBytes(first.Path, File.ReadAllBytes(first.Path)[..^4]);
        Assert.That(() => Run("damaged", "beta: 0.5"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("not whole; delete it"));
    }

    [Test]
    public void It_is_told_where_it_changes_nothing()
    {
        var warnings = ObjectiveRules.Warnings(new ObjectiveSection { Type = "distill", Teacher = "t", SeqKd = true, Lmbda = 1 });
        Assert.That(warnings, Has.One.Contains("seq_kd has no effect with lmbda: 1"));
    }

    private static string Answered(JsonNode row, TextGenerator generator)
    {
        int[] ids = [.. row["input_ids"]!.AsArray().Select(static i => i!.GetValue<int>())];
        var start = row["labels"]!.AsArray().Count(static l => l!.GetValue<int>() == -100);
        var answer = generator.Continue([ids[..start]])[0].OutputIds;
        return $$"""{"input_ids":[{{string.Join(',', ids[..start].Concat(answer))}}],"labels":[{{string.Join(',', Enumerable.Repeat(-100, start).Concat(answer))}}]}""" + "\n";
    }
}
