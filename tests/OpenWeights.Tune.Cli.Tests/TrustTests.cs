using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>What could go wrong without a word, from the outside.</summary>
public sealed class TrustTests
{
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    [Test]
    public void A_GGUF_file_is_a_tokenizer_and_a_chat_template_too()
    {
        using var work = new TemporaryFolder();
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--dtype", "q8_0", "--verify", "false", "--output", "base.gguf");
        work.Write("texts.json", """["January the fifth", "<|im_start|>two"]""");
        work.Write("cases.json", """[{"name": "a", "messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": true}]""");
        foreach (var command in new[] { (string[])["tokenize", "--input", "texts.json", "--tokenizer"], ["render", "--input", "cases.json", "--tokenizer"] })
        {
            Assert.That(Owt.Run(work.Root, 0, [.. command, "base.gguf"]).Output, Is.EqualTo(Owt.Run(work.Root, 0, [.. command, s_base]).Output), command[0]);
        }

        var inspected = Owt.Run(work.Root, 0, "inspect", "base.gguf", "--json").Json[0];
        Assert.That((inspected["chat_template"]!.GetValue<bool>(), inspected["eos_token"]!.ToString()), Is.EqualTo((true, "<|im_end|> (2)")));
    }

    [TestCase("bad.json", "[{\"role\": \"user\",\n \"content\": }]", "bad.json", "line 2")]
    [TestCase("twice.json", """[{"role": "user", "role": "user", "content": "a"}]""", "twice.json", "'role'")]
    [TestCase("number.json", "[3]", "number.json", "item 1")]
    [TestCase("picture.json", """[{"role": "user", "content": [{"type": "image", "url": "a.png"}]}]""", "message 1", "image")]
    public void A_messages_file_with_a_mistake_is_told_by_its_place(string name, string text, string place, string what)
    {
        using var work = new TemporaryFolder();
        work.Write(name, text);
        Assert.That(Owt.Run(work.Root, 2, "generate", "--model", s_base, "--messages", name).Error, Does.Contain("error: ").And.Contains(place).And.Contains(what).And.Not.Contains("bug in the program"));
    }

    [Test]
    public void Half_a_character_in_a_text_to_score_is_told_with_its_line()
    {
        using var work = new TemporaryFolder();
        work.Write("in.jsonl", "{\"text\": \"fine\"}\n{\"text\": \"a \\ud83d\"}\n");
        Assert.That(Owt.Run(work.Root, 2, "score", "--model", s_base, "--input", "in.jsonl").Error, Does.Contain("in.jsonl:2: "));
    }

    [Test]
    public void An_adapter_over_another_base_is_refused_by_every_command_unless_it_is_asked_for()
    {
        using var work = new Workspace("max_steps: 2, micro_batch_size: 2, warmup_steps: 0, learning_rate: 1.0e-2", rows: 6);
        Owt.Run(work.Root, 0, "train", "train.yaml");
        Owt.Run(work.Root, 0, "init", "--hidden-size", "32", "--intermediate-size", "48", "--vocab-size", $"{Workspace.Vocabulary}", "--seed", "99", "--output", "other");
        work.Write("in.jsonl", """{"input_ids": [1, 2, 3]}""");
        foreach (var command in new[]
        {
            (string[])["score", "--input", "in.jsonl"], ["evaluate", "--data", "rows.jsonl"], ["export", "--format", "merged"], ["export", "--format", "peft"],
        })
        {
            Owt.Run(work.Root, 0, [.. command, "--model", "model", "--adapter", "run/adapter", .. Output(command, "own")]);
            string[] over = [.. command, "--model", "other", "--adapter", "run/adapter"];
            Assert.That(Owt.Run(work.Root, 2, [.. over, .. Output(command, "refused")]).Error, Does.Contain("a different base model").And.Contains("--any-base"), command[0]);
            Owt.Run(work.Root, 0, [.. over, "--any-base", .. Output(command, "any")]);
        }

        foreach (var command in new[] { "train", "validate" })
        {
            Assert.That(Owt.Run(work.Root, 2, command, "train.yaml", "model.path=other", "adapter.path=run/adapter", "output_dir=run2").Error, Does.Contain("a different base model").And.Contains("any_base"), command);
        }

        Owt.Run(work.Root, 0, "validate", "train.yaml", "adapter.path=run/adapter", "output_dir=run2");
        Owt.Run(work.Root, 0, "validate", "train.yaml", "model.path=other", "adapter.path=run/adapter", "adapter.any_base=true", "output_dir=run2");
        Owt.Run(work.Root, 0, "train", "train.yaml", "model.path=other", "adapter.path=run/adapter", "adapter.any_base=true", "output_dir=run2");
    }

    [Test]
    public void Export_tells_of_rows_that_are_not_there_before_it_writes()
    {
        using var work = new TemporaryFolder();
        work.Write("bad.jsonl", "{\"messages\": 3}\n");
        foreach (var rows in new[] { "nowhere.jsonl", "bad.jsonl" })
        {
            Assert.That(Owt.Run(work.Root, 2, "export", "--format", "merged", "--model", s_base, "--output", "merged", "--data", rows).Error, Does.Contain(rows));
            Assert.That(Path.Exists(Path.Combine(work.Root, "merged")), Is.False, rows);
        }
    }

    [Test]
    public void One_name_of_a_module_is_a_list_of_one()
    {
        using var work = new Workspace("max_steps: 1, micro_batch_size: 2, learning_rate: 1.0e-2", rows: 6);
        Owt.Run(work.Root, 0, "train", "train.yaml", "adapter.target_modules=q_proj", "adapter.exclude_modules=k_proj", "adapter.layers_to_transform=[0]");
        Assert.That(Owt.Run(work.Root, 0, "inspect", "run/adapter", "--json").Output, Does.Contain("q_proj.lora_A").And.Not.Contain("v_proj"));
        Assert.That(Owt.Run(work.Root, 1, "validate", "train.yaml", "adapter.target_modules=q_porj", "output_dir=run2").Error, Does.Contain("q_porj; did you mean q_proj?"));
    }

    [Test]
    public void Validate_tells_settings_files_modules_and_rows_at_once()
    {
        using var work = new Workspace();
        work.Write("bad.jsonl", "{\"input_ids\": [1, 2, 3]}\nnothing\n");
        var told = Owt.Run(work.Root, 1, "validate", "train.yaml", "adapter.target_modules=[q_porj]", "training.epochs=many", "data.train=bad.jsonl").Error;
        Assert.That(told.Split('\n', StringSplitOptions.RemoveEmptyEntries).Count(static l => l.StartsWith("error: ", StringComparison.Ordinal)), Is.EqualTo(4), told);
        Assert.That(told, Does.Contain("did you mean q_proj?").And.Contain("training.epochs: ").And.Contain("bad.jsonl:2").And.Contain("1 bad row in all"));
        Assert.That(Owt.Run(work.Root, 1, "train", "train.yaml", "adapter.target_modules=[q_porj]", "training.epochs=many", "data.train=rows.json").Error, Does.Contain("did you mean q_proj?").And.Contain("training.epochs: ").And.Contain("rows.jsonl?"));
    }

    [Test]
    public void An_adapter_that_changes_nothing_is_named()
    {
        using var work = new Workspace("max_steps: 1, micro_batch_size: 2, warmup_steps: 4, learning_rate: 1.0e-2", rows: 6);
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml").Error, Does.Contain("warning: training had no effect"));
        foreach (var command in new[] { (string[])["train", "train.yaml", "--dry-run"], ["train", "train.yaml"], ["validate", "train.yaml"] })
        {
            var told = Owt.Run(work.Root, 0, [.. command, "adapter.path=run/adapter", "output_dir=run2"]).Error.Split('\n');
            Assert.That(told.Count(static l => l.StartsWith("warning: ", StringComparison.Ordinal) && l.Contains("run/adapter: the adapter has no effect", StringComparison.Ordinal)), Is.EqualTo(1), string.Join(' ', command));
        }

        work.Write("in.jsonl", """{"input_ids": [1, 2, 3]}""");
        Assert.That(Owt.Run(work.Root, 0, "score", "--model", "model", "--adapter", "run/adapter", "--input", "in.jsonl").Error, Does.Contain("warning: ").And.Contains("has no effect"));
        Assert.That(Owt.Run(work.Root, 0, "inspect", "run/adapter").Output, Does.Contain("has no effect"));
    }

    [Test]
    public void A_DoRA_adapter_changes_nothing_where_its_magnitudes_are_the_bases_own()
    {
        using var work = new Workspace("max_steps: 1, micro_batch_size: 2, warmup_steps: 4, learning_rate: 1.0e-2", rows: 6);
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "adapter.use_dora=true").Error, Does.Contain("training had no effect"));
        work.Write("in.jsonl", """{"input_ids": [1, 2, 3]}""");
        Assert.That(Owt.Run(work.Root, 0, "score", "--model", "model", "--adapter", "run/adapter", "--input", "in.jsonl").Error, Does.Contain("has no effect"));
        Assert.That(Owt.Run(work.Root, 0, "train", "train.yaml", "adapter.use_dora=true", "training.warmup_steps=0", "output_dir=run2").Error, Does.Not.Contain("changed nothing"));
        Assert.That(Owt.Run(work.Root, 0, "score", "--model", "model", "--adapter", "run2/adapter", "--input", "in.jsonl").Error, Does.Not.Contain("has no effect"));
    }

    [Test]
    public void The_chat_template_of_a_run_goes_with_its_adapter()
    {
        using var work = new TemporaryFolder();
        work.Write("rows.jsonl", """{"messages": [{"role": "user", "content": "five"}, {"role": "assistant", "content": "5"}]}""" + "\n");
        work.Write("other.jinja", "{% for m in messages %}({{ m.role }}) {{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}(assistant) {% endif %}");
        work.Write("messages.json", """[{"role": "user", "content": "six"}]""");
        work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: '{{s_base}}', device: cpu, chat_template: other.jinja }
            adapter: { r: 2, lora_alpha: 8 }
            data: { train: [ { path: rows.jsonl } ], packing: false, max_length: 64 }
            training: { max_steps: 2, micro_batch_size: 1, learning_rate: 1.0e-2, warmup_steps: 0 }
            """);
        Assert.That(Owt.Run(work.Root, 0, "data", "preview", "train.yaml").Output, Does.Contain("(user) five"));
        Owt.Run(work.Root, 0, "train", "train.yaml");
        Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", s_base, "--adapter", "run/adapter", "--verify", "false", "--output", "merged");
        Owt.Run(work.Root, 0, "export", "--format", "gguf", "--model", s_base, "--adapter", "run/adapter", "--verify", "false", "--output", "merged.gguf");
        string[] ask = ["--messages", "messages.json", "--max-new-tokens", "1", "--json"];
        string Asked(params string[] model) => Owt.Run(work.Root, 0, ["generate", .. model, .. ask]).Json[0]["input_ids"]!.ToJsonString();
        var with = Asked("--model", s_base, "--adapter", "run/adapter");
        Assert.That(with, Is.Not.EqualTo(Asked("--model", s_base)));
        Assert.That((Asked("--model", "merged"), Asked("--model", "merged.gguf")), Is.EqualTo((with, with)));
    }

    private static string[] Output(string[] command, string name) => command[0] == "export" ? ["--output", $"{command[2]} {name}"] : [];
}
