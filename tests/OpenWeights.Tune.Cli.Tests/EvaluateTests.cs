using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>owt evaluate with tasks and generated answers, and owt generate over a file, with the quickstart's model and an adapter of a few steps.</summary>
public sealed class EvaluateTests
{
    private static readonly string s_quickstart = Path.Combine(SharedFiles.Root, "datasets", "quickstart");
    private TemporaryFolder _work = null!;

    [OneTimeSetUp]
    public void Train()
    {
        _work = new TemporaryFolder();
        _work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: '{{Path.Combine(s_quickstart, "base")}}', dtype: float32, device: cpu }
            adapter: { r: 8, lora_alpha: 16 }
            data: { train: '{{Path.Combine(s_quickstart, "train.jsonl")}}', packing: false }
            training: { max_steps: 60, micro_batch_size: 16, learning_rate: 5.0e-3 }
            evaluation: { generate_rows: 0 }
            checkpoint: { every_steps: 0 }
            """);
        Owt.Run(_work.Root, 0, "train", "train.yaml");
    }

    [OneTimeTearDown]
    public void Clean() => _work?.Dispose();

    [Test]
    public void Generated_answers_are_scored_with_the_base_models_beside_them()
    {
        var json = Owt.Run(_work.Root, 0, "evaluate", "--model", "run", "--data", Path.Combine(s_quickstart, "eval.jsonl"), "--limit", "30", "--generate", "--max-new-tokens", "16", "--samples", "answers.jsonl", "--json").Json.Single();
        Assert.That(JsonOutputTests.ProblemsOf(json, "evaluate_answers"), Is.Empty);
        Assert.That(json["answers"]!.GetValue<int>(), Is.EqualTo(30));
        Assert.That(json["metrics"]!.AsObject().Select(static m => m.Key), Is.EqualTo(new[] { "exact_match", "bleu", "chrf", "rouge1", "rougeL" }));
        var samples = File.ReadAllLines(_work.At("answers.jsonl")).Select(static l => JsonNode.Parse(l)!).ToList();
        Assert.That(samples, Has.Count.EqualTo(30));
        double Exact(string given) => samples.Count(s => s[given]!.ToString().Trim() == s["expected"]!.ToString().Trim()) / 30.0;
        var exact = json["metrics"]!["exact_match"]!;
        Assert.That(exact["value"]!.GetValue<double>(), Is.EqualTo(Exact("given")).Within(1e-12));
        Assert.That(exact["base"]!["value"]!.GetValue<double>(), Is.EqualTo(Exact("base_given")).Within(1e-12));
        var chrf = json["metrics"]!["chrf"]!;
        Assert.That(chrf["value"]!.GetValue<double>(), Is.GreaterThan(chrf["base"]!["value"]!.GetValue<double>()), "the adapter has learnt what a date looks like");
        Assert.That(chrf["difference"]!["value"]!.GetValue<double>(), Is.EqualTo(chrf["value"]!.GetValue<double>() - chrf["base"]!["value"]!.GetValue<double>()).Within(1e-9));
        var text = Owt.Run(_work.Root, 0, "evaluate", "--model", "run", "--data", Path.Combine(s_quickstart, "eval.jsonl"), "--limit", "3", "--generate", "--no-base", "--metrics", "rouge2").Output;
        Assert.That(text, Does.Contain("3 answers").And.Contains("rouge2").And.Not.Contain("base"));
    }

    [Test]
    public void Tasks_of_a_file_are_judged_each_in_its_way()
    {
        _work.Write("dates.jsonl", """
            {"ask": "Give the ISO date of the third of March, two thousand and five.", "options": {"text": ["2005-03-03", "banana banana banana"]}, "right": "A"}
            {"ask": "Give the ISO date of the fifth of May, two thousand and one.", "options": {"text": ["apple apple apple", "2001-05-05"]}, "right": 1}
            """);
        _work.Write("texts.jsonl", "{\"question\": \"What is it?\", \"answer\": \"a\"}\n{\"question\": \"And now?\", \"answer\": \"b\"}\n");
        _work.Write("sums.jsonl", "{\"question\": \"1 + 1?\", \"answer\": \"It is two.\\n#### 2\"}\n");
        _work.Write("tasks.yaml", """
            tasks:
              - { name: dates, path: dates.jsonl, prompt: "{ask}", choices: options.text, answer: right, chat: true }
              - { path: texts.jsonl, max_new_tokens: 4, shots: 1, shots_path: texts.jsonl }
              - { path: sums.jsonl, max_new_tokens: 8 }
            """);
        var json = Owt.Run(_work.Root, 0, "evaluate", "--model", "run", "--tasks", "tasks.yaml", "--samples", "samples.jsonl", "--json").Json.Single();
        Assert.That(JsonOutputTests.ProblemsOf(json, "evaluate_tasks"), Is.Empty);
        var tasks = json["tasks"]!.AsArray();
        Assert.That(tasks.Select(static t => $"{t!["task"]} {t["type"]} {t["questions"]}: {string.Join(' ', t["metrics"]!.AsObject().Select(static m => m.Key))}"),
            Is.EqualTo(new[] { "dates multiple_choice 2: acc acc_norm", "texts exact_match 2: exact_match", "sums gsm8k 1: exact_match exact_match_flexible" }));
        Assert.That(tasks[0]!["metrics"]!["acc"]!["value"]!.GetValue<double>(), Is.EqualTo(1), "a date rather than fruit");
        Assert.That(tasks[2]!["metrics"]!["exact_match"]!["stderr"], Is.Null, "one question has no standard error");

        // The log-likelihood of a choice is that which owt score finds of the same conversation.
        var sample = JsonNode.Parse(File.ReadLines(_work.At("samples.jsonl")).First())!;
        _work.Write("chat.json", """[{"role": "user", "content": "Give the ISO date of the third of March, two thousand and five."}, {"role": "assistant", "content": "2005-03-03"}]""");
        var scored = Owt.Run(_work.Root, 0, "score", "--model", "run", "--messages", "chat.json", "--dtype", "float32").Json.Single();
        var prompt = Owt.Run(_work.Root, 0, "generate", "--model", "run", "--message", "Give the ISO date of the third of March, two thousand and five.", "--max-new-tokens", "1", "--json").Json.Single()["input_ids"]!.AsArray().Count;
        var answer = Owt.Run(_work.Root, 0, "tokenize", "--model", "run", "--text", "2005-03-03").Json.Single()["ids"]!.AsArray().Count;
        var expected = scored["logprobs"]!.AsArray().Skip(prompt).Take(answer).Sum(static l => l!.GetValue<double>());
        Assert.That(sample["loglikelihoods"]![0]!.GetValue<double>(), Is.EqualTo(expected).Within(1e-4));
    }

    [Test]
    public void Mistakes_in_a_task_file_are_told_with_their_place()
    {
        _work.Write("wrong.yaml", "tasks:\n  - { path: dates.jsonl, type: multiple, shots: 2 }\n  - { paht: x }\n");
        var error = Owt.Run(_work.Root, 1, "evaluate", "--model", "run", "--tasks", "wrong.yaml").Error;
        Assert.That(error, Does.Contain("wrong.yaml:2").And.Contains("multiple_choice").And.Contains("paht").And.Contains("tasks.0.shots_path"));
        _work.Write("none.jsonl", "{\"query\": \"x\", \"choices\": [\"a\", \"b\"], \"gold\": 2}\n");
        Assert.That(Owt.Run(_work.Root, 2, "evaluate", "--model", "run", "--tasks", "none.jsonl").Error, Does.Contain("none.jsonl:1").And.Contains("none of the 2 choices"));
        Assert.That(Owt.Run(_work.Root, 1, "evaluate", "--model", "run", "--data", "x", "--tasks", "y").Error, Does.Contain("one of --data and --tasks"));
        Assert.That(Owt.Run(_work.Root, 1, "evaluate", "--model", "run", "--data", "x", "--generate", "--metrics", "blue").Error, Does.Contain("'blue' is not a metric").And.Contains("bleu"));
    }

    [Test]
    public void A_file_of_rows_is_answered_in_batches_and_goes_on_where_it_ended()
    {
        string[] generate = ["generate", "--model", "run", "--input", Path.Combine(s_quickstart, "eval.jsonl"), "--limit", "10", "--max-new-tokens", "12", "--temperature", "0.8", "--batch-size", "4"];
        Assert.That(JsonOutputTests.ProblemsOf(Owt.Run(_work.Root, 0, [.. generate, "--output", "whole.jsonl", "--json"]).Json.Single(), "generate_file"), Is.Empty);
        var whole = File.ReadAllLines(_work.At("whole.jsonl"));
        Assert.That(whole, Has.Length.EqualTo(10));
        Assert.That(whole.Select(static l => JsonNode.Parse(l)!["index"]!.GetValue<int>()), Is.EqualTo(Enumerable.Range(0, 10)));

        // As a crash leaves it: the fifth line is cut off.
        _work.Write("part.jsonl", string.Join('\n', whole.Take(4)) + "\n" + whole[4][..20]);
        Assert.That(Owt.Run(_work.Root, 1, [.. generate, "--output", "part.jsonl"]).Error, Does.Contain("already exists"));
        Owt.Run(_work.Root, 0, [.. generate, "--output", "part.jsonl", "--resume"]);
        Assert.That(File.ReadAllLines(_work.At("part.jsonl")), Is.EqualTo(whole), "random numbers are of a row, not of its batch");
        Owt.Run(_work.Root, 2, "generate", "--model", "run", "--input", Path.Combine(s_quickstart, "train.jsonl"), "--limit", "10", "--output", "part.jsonl", "--resume");
    }
}
