using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Evaluation;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Every run ends with answers from before and after, without being asked for them.</summary>
public sealed class BeforeAndAfterTests
{
    [Test]
    public void Rows_held_back_by_fraction_are_asked_as_those_of_a_file_are()
    {
        using var folder = new TemporaryFolder();
        var (listener, samples) = Run(folder, static d => d with { EvalFraction = 0.3 });
        Assert.That(listener.Scores.Select(static s => (s.When, s.Asked, s.Answers)), Is.EqualTo(new[] { ("before training", EvaluationRows.HeldBack, 3), ("after training", EvaluationRows.HeldBack, 3) }));
        var prompts = samples.Select(static s => s["prompt"]!.ToString()).Distinct().ToList();
        Assert.That(prompts, Has.Count.EqualTo(3));

        // The same rows in a file of their own are asked in the same way.
        File.WriteAllLines(folder.At("eval.jsonl"), File.ReadLines(folder.At("pairs.jsonl")).Where(l => prompts.Contains(JsonNode.Parse(l)!["prompt"]!.ToString())));
        var (ofFile, fromFile) = Run(folder, d => d with { Eval = [new DataSource { Path = folder.At("eval.jsonl") }] });
        Assert.That(ofFile.Scores[0].Asked, Is.EqualTo(EvaluationRows.Eval));
        static IEnumerable<string> Before(List<JsonObject> all) => all.Where(static s => s["when"]!.ToString() == "before training").Select(static s => $"{s["prompt"]} {s["expected"]} {s["given"]}");
        Assert.That(Before(fromFile), Is.EqualTo(Before(samples)));
    }

    [Test]
    public void Rows_that_are_trained_on_are_asked_where_there_are_no_others_and_count_as_no_evaluation()
    {
        using var folder = new TemporaryFolder();
        var (listener, samples) = Run(folder, static d => d);
        Assert.That(listener.Scores.Select(static s => (s.When, s.Asked, s.Answers)), Is.EqualTo(new[] { ("before training", EvaluationRows.Trained, 3), ("after training", EvaluationRows.Trained, 3) }));
        Assert.That(samples, Has.Count.EqualTo(6));
        Assert.That(samples.Select(static s => s["rows"]!.ToString()).Distinct(), Is.EqualTo(new[] { "train" }));
        Assert.That(samples[0]["expected"]!.ToString(), Does.StartWith("one two"));
        Assert.That(File.ReadAllText(folder.At("run", "metrics.jsonl")), Does.Not.Contain("eval_"));
        Assert.That(File.ReadAllText(folder.At("run", "report.html")), Does.Contain("rows that were trained on"));
    }

    [TestCase("""{"text": "counting one two three four five six seven"}""", "counting one two", "three four five six seven")]
    [TestCase("""{"input_ids": [64, 65, 66, 67, 68, 69], "labels": [-100, -100, 66, 67, 68, 69]}""", null, null)]
    [TestCase("""{"prompt": [{"role": "user", "content": "hi"}], "completion": [{"role": "assistant", "content": "ho"}]}""", "hi", "ho")]
    [TestCase("""{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}, {"role": "user", "content": "bye"}]}""", "hi", "ho")]
    public void Rows_of_every_format_are_asked(string row, string? prompt, string? expected)
    {
        using var folder = new TemporaryFolder();
        _ = SpeakingModel.Write(folder);
        File.WriteAllText(folder.At("speaker", "chat_template.jinja"), "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}");
        folder.Write("pairs.jsonl", string.Join('\n', Enumerable.Repeat(row, 4)));
        var (_, samples) = Run(folder, static d => d);
        Assert.That(samples, Has.Count.EqualTo(6));
        if (prompt is not null)
        {
            Assert.That(samples[0]["prompt"]!.ToString(), Does.StartWith(prompt));
            Assert.That(expected, Does.EndWith(samples[0]["expected"]!.ToString().Trim()));
        }
    }

    private static (SilentListener Listener, List<JsonObject> Samples) Run(TemporaryFolder folder, Func<DataSection, DataSection> change)
    {
        if (!Directory.Exists(folder.At("speaker")))
        {
            _ = SpeakingModel.Write(folder);
            _ = SpeakingModel.WritePairs(folder, 20);
        }

        var config = new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = folder.At("speaker"), Device = TestDevice.Name },
            Adapter = new AdapterSection { Rank = 2 },
            Data = change(new DataSection { Train = [new DataSource { Path = folder.At("pairs.jsonl") }], Packing = false }),
            Training = new TrainingSection { MaxSteps = 2, MicroBatchSize = 2 },
            Evaluation = new EvaluationSection { MaxNewTokens = 8 },
        };
        var listener = new SilentListener();
        using var run = TrainingRun.Prepare(config, listener);
        _ = run.Run(overwrite: true, "test", CancellationToken.None);
        return (listener, [.. File.ReadLines(folder.At("run", "samples.jsonl")).Select(static l => JsonNode.Parse(l)!.AsObject())]);
    }
}
