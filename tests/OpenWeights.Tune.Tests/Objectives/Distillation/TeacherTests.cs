using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Objectives.Distillation;

/// <summary>Teachers as files of other kinds.</summary>
public sealed class TeacherTests
{
    private static string Base => Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    [TestCase("f32", 0, 1e-9)]
    [TestCase("q8_0", 1e-7, 1e-3)]
    public void A_teacher_may_be_a_GGUF_file_quantized_or_not(string preset, double least, double most)
    {
        using var folder = new TemporaryFolder();
        var teacher = folder.At("teacher.gguf");
        _ = GgufExport.Write(ModelFolder.Open(Base), null, teacher, GgufPreset.Of(preset));

        // The student is what the file was made from, so that only the quantization is between them.
        var step = Run(folder, Base, teacher).Steps[0];
        Assert.That(step.Loss, Is.GreaterThanOrEqualTo(least).And.LessThan(most));
        Assert.That(step.Objective["teacher_agreement"], Is.GreaterThan(0.97));
    }

    [Test]
    public void A_teacher_with_other_tokens_is_refused_with_the_first_of_them()
    {
        using var folder = new TemporaryFolder();
        var teacher = folder.At("teacher");
        _ = Directory.CreateDirectory(teacher);
        foreach (var file in Directory.GetFiles(Base))
        {
            File.Copy(file, Path.Combine(teacher, Path.GetFileName(file)));
        }

        var path = Path.Combine(teacher, "tokenizer.json");
        var text = File.ReadAllText(path);
        var known = JsonNode.Parse(text)!["model"]!["vocab"]!.AsObject();
        var (first, last) = (known.First(static t => t.Value!.GetValue<int>() == 100).Key, known.First(static t => t.Value!.GetValue<int>() == 101).Key);
        known[first] = 101;
        known[last] = 100;
        var changed = JsonNode.Parse(text)!;
        changed["model"]!["vocab"] = known.DeepClone();
        File.WriteAllText(path, changed.ToJsonString());
        Assert.That(() => Run(folder, Base, teacher), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("2 of ").And.Message.Contains("the first is token 100").And.Message.Contains("another vocabulary"));
    }

    [Test]
    public void A_teacher_may_be_a_run_that_trained_an_adapter()
    {
        using var runs = new ComparedRun();
        _ = ComparedRun.Run(runs.Config("teacher-run", "type: sft", rows: "rows.jsonl"));
        var ofRun = ComparedRun.Run(runs.Config("student", $"type: distill, beta: 0, teacher: '{runs.At("teacher-run")}'", rows: "rows.jsonl"));
        var ofBase = ComparedRun.Run(runs.Config("other", $"type: distill, beta: 0, teacher: '{runs.At("model")}'", rows: "rows.jsonl"));
        Assert.That(ofBase.Steps[0].Loss, Is.EqualTo(0).Within(1e-6), "the new adapter changes nothing yet");
        Assert.That(ofRun.Steps[0].Loss, Is.GreaterThan(1e-4));
    }

    private static SilentListener Run(TemporaryFolder folder, string student, string teacher)
    {
        var path = folder.Write("train.yaml", $$"""
            output_dir: '{{folder.Root}}/out'
            model: { path: '{{student}}', dtype: float32, device: cpu }
            adapter: { r: 2, lora_alpha: 4 }
            data: { train: [ { path: '{{Path.Combine(SharedFiles.Root, "datasets", "quickstart", "eval.jsonl")}}', limit: 8 } ], packing: false }
            objective: { type: distill, beta: 0, teacher: '{{teacher}}' }
            training: { max_steps: 1, micro_batch_size: 8 }
            evaluation: { generate_rows: 0 }
            """);
        var listener = new SilentListener();
        using var run = TrainingRun.Prepare(RunConfigFile.Read(path, []), listener, new RunOptions { IgnoreMemory = true });
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
        return listener;
    }
}
