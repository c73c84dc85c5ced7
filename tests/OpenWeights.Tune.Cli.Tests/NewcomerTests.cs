using System.CommandLine;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>What somebody tries first: texts and questions on the command line, a run where a model is wanted, the settings of training in other
/// commands.</summary>
public sealed class NewcomerTests
{
    private static readonly string s_base = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    [Test]
    public void Questions_of_the_command_line_are_answered_as_the_same_messages_of_a_file()
    {
        using var work = new TemporaryFolder();
        var told = work.Write("told.json", """[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "five"}]""");
        string[] line = ["generate", "--model", s_base, "--max-new-tokens", "5", "--json"];
        var expected = Owt.Run(".", 0, [.. line, "--messages", told]).Json.Single().ToJsonString();
        var answers = Owt.Run(".", 0, [.. line, "--message", "January 5", "--message", "five", "--system", "Be brief."]).Json;
        Assert.That(answers, Has.Count.EqualTo(2));
        Assert.That(answers[1].ToJsonString(), Is.EqualTo(expected));
        Assert.That(answers[0]["input_ids"]!.ToJsonString(), Is.Not.EqualTo(answers[1]["input_ids"]!.ToJsonString()));
    }

    [Test]
    [Platform(Exclude = "Win", Reason = "a shell is needed")]
    public void A_dash_is_what_comes_on_stdin()
    {
        string Ids(string shell, params string[] arguments) => Owt.RunInShell(".", shell, 0, arguments).Json.Single()["ids"]!.ToJsonString();
        var expected = Ids("exec \"$@\"", "tokenize", "--model", s_base, "--text", "five six");
        Assert.That(Ids("printf 'five six\\n' | \"$@\"", "tokenize", "--model", s_base, "--text", "-"), Is.EqualTo(expected));
        Assert.That(Ids("printf '[\"five six\"]' | \"$@\"", "tokenize", "--model", s_base, "--input", "-"), Is.EqualTo(expected));
        string[] generate = ["generate", "--model", s_base, "--max-new-tokens", "5"];
        Assert.That(Owt.RunInShell(".", "printf five | \"$@\"", 0, [.. generate, "--message", "-"]).Output, Is.EqualTo(Owt.Run(".", 0, [.. generate, "--message", "five"]).Output));
    }

    [Test]
    public void Weights_that_are_no_numbers_are_told_by_every_command_that_computes_with_them()
    {
        using var work = new TemporaryFolder();
        _ = Directory.CreateDirectory(work["model"]);
        foreach (var file in Directory.EnumerateFiles(s_base))
        {
            File.Copy(file, work.At("model", Path.GetFileName(file)));
        }

        // Behind the header's length and the header come the tensors; four bytes of ones are NaN.
        var path = work.At("model", "model.safetensors");
        var bytes = File.ReadAllBytes(path);
        bytes.AsSpan(8 + (int)BitConverter.ToInt64(bytes)).Fill(0xff);
        File.WriteAllBytes(path, bytes);
        var rows = work.Write("rows.jsonl", "{\"text\": \"January 5\"}\n");
        work.Write("train.yaml", "{ output_dir: run, model: { path: model, device: cpu }, adapter: { r: 4 }, data: { train: rows.jsonl }, training: { max_steps: 2 } }");
        const string told = "not finite numbers";
        Assert.That(Owt.Run(work.Root, 0, "generate", "--model", "model", "--prompt", "five", "--max-new-tokens", "2").Error, Does.Contain(told));
        Assert.That(Owt.Run(work.Root, 0, "evaluate", "--model", "model", "--data", rows).Error, Does.Contain(told));
        Assert.That(Owt.Run(work.Root, 0, "export", "--format", "merged", "--model", "model", "--output", "out").Error, Does.Contain(told));
        Assert.That(Owt.Run(work.Root, 3, "train", "train.yaml").Error, Does.Contain("the loss of the first step is NaN, before anything was trained"));
    }

    [Test]
    public void An_empty_prompt_is_told_in_words_where_the_model_begins_with_no_token_of_its_own()
    {
        var error = Owt.Run(".", 1, "generate", "--model", s_base, "--prompt", "five", "--prompt", "").Error;
        Assert.That(error, Does.Contain("command line: --prompt: a text is empty").And.Not.Contain("Parameter"));
    }

    [TestCase("generate --model m --message a --prompt b", "give one of --message, --messages, --prompt and --input.")]
    [TestCase("generate --model m", "give one of --message, --messages, --prompt and --input.")]
    [TestCase("generate --model m --prompt b --system s", "--system requires --message")]
    [TestCase("generate --model m --message a --chat-template-kwargs [1]", "--chat-template-kwargs must be a JSON object")]
    [TestCase("generate --model m --message a --chat-template-kwargs {\"messages\":1}", "'messages' is the chat's own")]
    [TestCase("score --model m", "give one of --text, --messages and --input.")]
    [TestCase("tokenize --model m", "give one of --text and --input.")]
    [TestCase("evaluate --model m --data d --role assistant", "--role: 'assistant' is not of the form NAME=THEIRS, such as assistant=teacher.")]
    [TestCase("evaluate --model m --data d --field prompt=a --field prompt=b", "--field: prompt is given twice.")]
    [TestCase("evaluate --model m --data d --max-length 1", "--max-length must be at least 2.")]
    [TestCase("evaluate --model m --data d --max-length x", "--max-length: 'x' is not a whole number.")]
    [TestCase("generate --model m --message a --temperature 0,7", "--temperature: '0,7' is not a number; decimals are written with a point.")]
    [TestCase("generate --model m --message a --top-p 7", "--top-p must be above 0, and at most 1.")]
    [TestCase("generate --model m --message", "--message needs a value, TEXT.")]
    public void What_does_not_go_together_is_told(string line, string told) => Assert.That(Owt.Run(".", 1, line.Split(' ')).Error, Does.Contain(told));

    [Test]
    public void An_option_without_its_value_is_told_and_nothing_is_thrown()
    {
        var tried = 0;
        foreach (var command in Commands(CommandLine.Root()).Where(static c => c.Subcommands.Count == 0))
        {
            var path = command.Parents.OfType<Command>().Where(static p => p is not RootCommand).Select(static p => p.Name).Append(command.Name).ToArray();
            foreach (var option in command.Options.Where(static o => o.Arity.MinimumNumberOfValues > 0))
            {
                string[] line = [.. path, option.Name];
                Assert.That(CommandErrors.Of(CommandLine.Root().Parse(line), line), Has.One.StartsWith($"{option.Name} needs a value"), string.Join(' ', line));
                tried++;
            }
        }

        Assert.That(tried, Is.GreaterThan(60));
    }

    [Test]
    public void Texts_to_tokenize_may_be_in_every_format_of_data()
    {
        using var work = new Workspace();
        work.Write("c.jsonl", "{\"text\": \"one two\"}\n{\"text\": \"three\"}\n");
        Owt.Run(work.Root, 0, "init", "--vocab-size", "270", "--tokenizer-data", "c.jsonl", "--output", "speaking");
        List<string> Decoded(string file, params string[] options) => [.. Owt.Run(work.Root, 0, ["tokenize", "--tokenizer", "speaking", "--input", file, .. options]).Json.Select(static l => l["decoded"]!.GetValue<string>())];
        string[] expected = ["one two", "three"];
        work.Write("a.json", "[\"one two\", \"three\"]");
        work.Write("b.json", "[{\"text\": \"one two\"}, {\"text\": \"three\"}]");
        work.Write("d.csv", "id,said\n1,one two\n2,three\n");
        work.Write("e.txt", "one two\nthree\n");
        Assert.That(Decoded("a.json"), Is.EqualTo(expected));
        Assert.That(Decoded("b.json"), Is.EqualTo(expected));
        Assert.That(Decoded("c.jsonl"), Is.EqualTo(expected));
        Assert.That(Decoded("d.csv", "--field", "text=said"), Is.EqualTo(expected));
        Assert.That(Decoded("e.txt", "--text-by", "line"), Is.EqualTo(expected));
        Assert.That(Decoded("e.txt"), Is.EqualTo(new[] { "one two\nthree\n" }), "a document");
        Assert.That(Owt.Run(work.Root, 2, "tokenize", "--tokenizer", "speaking", "--input", "d.csv").Error, Does.Contain("d.csv").And.Contains("\"text\" is missing; the row has id, said.").And.Contains("--field text=id"));
        Assert.That(Owt.Run(work.Root, 2, "tokenize", "--tokenizer", "speaking", "--input", "f.csv").Error, Does.Contain("f.csv"));
    }

    [Test]
    public void Paths_within_the_current_folder_are_shown_as_a_person_writes_them()
    {
        using var work = new Workspace("max_steps: 1, warmup_steps: 0");
        var trained = Owt.Run(work.Root, 0, "train", "train.yaml");
        var said = trained.Error + trained.Output;
        Assert.That(said, Does.Contain("model     model (").And.Contains("data      rows.jsonl: tokenized").And.Contains($"folder    run{Environment.NewLine}").And.Contains("adapter written to run/adapter after"));
        Assert.That(said, Does.Not.Contain(work.Root));
        Directory.CreateDirectory(work.At("below"));
        Assert.That(Owt.Run(work.At("below"), 0, "train", "../train.yaml", "--dry-run").Output, Does.Contain(work.At("rows.jsonl")), "one elsewhere is shown whole");
    }

    [Test]
    public void Rows_one_conversation_and_a_list_are_rendered_alike()
    {
        using var work = new TemporaryFolder();
        const string chat = """{"messages": [{"role": "user", "content": "five"}]}""";
        string Rendered(string name, string text)
        {
            work.Write(name, text);
            return Owt.Run(work.Root, 0, "render", "--model", s_base, "--input", name).Output;
        }

        var expected = Rendered("list.json", $"[{chat}]");
        Assert.That(expected, Does.Contain("five"));
        Assert.That(Rendered("one.json", chat), Is.EqualTo(expected));
        Assert.That(Rendered("rows.jsonl", $"{chat}\n{chat}\n"), Is.EqualTo(expected + expected));
    }

    [Test]
    public void A_file_that_is_no_model_of_any_kind_is_said_to_be_none()
    {
        using var work = new TemporaryFolder();
        work.Write("book.txt", "Once upon a time.\n");
        Assert.That(Owt.Run(work.Root, 2, "inspect", "book.txt").Error, Does.Contain("unknown file type. inspect describes model"));
    }

    [Test]
    public void Texts_of_the_command_line_and_chats_are_scored_as_rows_of_their_tokens()
    {
        using var work = new TemporaryFolder();
        work.Write("chat.json", """[{"role": "user", "content": "five"}, {"role": "assistant", "content": "six"}]""");
        work.Write("rows.csv", "said,n\nfive six,1\nnever read,2\n");
        var texts = Owt.Run(work.Root, 0, "score", "--model", s_base, "--text", "five six", "--text", "<|im_start|>user\nfive<|im_end|>\n<|im_start|>assistant\nsix<|im_end|>\n").Output.Split('\n');
        Assert.That(Owt.Run(work.Root, 0, "score", "--model", s_base, "--input", "rows.csv", "--field", "text=said", "--limit", "1").Output, Is.EqualTo(texts[0] + "\n"));
        Assert.That(Owt.Run(work.Root, 0, "score", "--model", s_base, "--messages", "chat.json").Output, Is.EqualTo(texts[1] + "\n"));
    }

    [Test]
    public void Rows_are_evaluated_with_the_settings_that_they_are_trained_with()
    {
        using var work = new TemporaryFolder();
        work.Write("apart.csv", "prompt,completion\nfive,\" six\"\n");
        work.Write("together.csv", "frage|antwort\nfive|six\nseven|eight\n");
        string[] line = ["evaluate", "--model", s_base, "--json", "--train-on", "all", "--data"];
        string[] spaced = ["together.csv", "--field", "prompt=frage", "--field", "completion=antwort", "--delimiter", "|", "--limit", "1", "--separator"];
        var expected = Owt.Run(work.Root, 0, [.. line, "apart.csv"]).Output;
        Assert.That(Owt.Run(work.Root, 0, [.. line, .. spaced, " "]).Output, Is.EqualTo(expected));
        Assert.That(Owt.Run(work.Root, 0, [.. line, .. spaced, "\\n"]).Output, Is.Not.EqualTo(expected));
        Assert.That(Owt.Run(work.Root, 0, [.. line, .. spaced[..^1]]).Error, Does.Contain("or --separator \" \" of a command"));
        work.Write("texts.txt", "five\nsix\n");
        Assert.That(Owt.Run(work.Root, 0, [.. line, "texts.txt", "--text-by", "line"]).Json.Single()["rows"]!.GetValue<int>(), Is.EqualTo(2));
        work.Write("bad.jsonl", "{\"text\": \"five\"}\n{\"text\": 5}\n");
        Assert.That(Owt.Run(work.Root, 0, [.. line, "bad.jsonl", "--bad-rows", "skip"]).Json.Single()["rows"]!.GetValue<int>(), Is.EqualTo(1));
    }

    [Test]
    public void A_run_stands_for_a_tokenizer_and_brings_its_template()
    {
        using var work = new TemporaryFolder();
        work.Write("rows.jsonl", """{"messages": [{"role": "user", "content": "five"}, {"role": "assistant", "content": "six"}]}""" + "\n");
        work.Write("mine.jinja", "{% for m in messages %}{{ m.content + (mark or '?') }}<|im_end|>{% endfor %}{% if add_generation_prompt %}{{ '>' + (mark or '?') }}{% endif %}");
        work.Write("cases.json", """[{"messages": [{"role": "user", "content": "five"}]}, {"messages": [], "mark": "own"}]""");
        work.Write("train.yaml", $$"""
            output_dir: run
            model: { path: "{{s_base}}", device: cpu, chat_template: mine.jinja }
            adapter: { r: 2 }
            data: { train: rows.jsonl, packing: false, max_length: 64, chat_template_kwargs: { mark: "!" } }
            training: { max_steps: 1, micro_batch_size: 1 }
            """);
        Owt.Run(work.Root, 0, "train", "train.yaml");
        string Rendered(params string[] arguments) => Owt.Run(work.Root, 0, ["render", "--model", "run", "--input", "cases.json", .. arguments]).Json[0]["rendered"]!.ToString();
        Assert.That(Rendered(), Is.EqualTo("five!<|im_end|>"));
        Assert.That(Rendered("--chat-template-kwargs", "{\"mark\": \"#\"}"), Is.EqualTo("five#<|im_end|>"));
        string Ids(string text) => Owt.Run(work.Root, 0, "tokenize", "--model", "run", "--text", text).Json.Single()["ids"]!.ToJsonString();
        string Prompt(params string[] arguments) => Owt.Run(work.Root, 0, ["generate", "--model", "run", "--message", "five", "--max-new-tokens", "1", "--json", .. arguments]).Json.Single()["input_ids"]!.ToJsonString();
        Assert.That(Prompt(), Is.EqualTo(Ids("five!<|im_end|>>!")));
        Assert.That(Prompt("--chat-template-kwargs", "{\"mark\": \"#\"}"), Is.EqualTo(Ids("five#<|im_end|>>#")));
    }

    [Test]
    public void What_is_in_a_model_is_told_in_few_lines_and_its_tensors_where_they_are_wanted()
    {
        var output = Owt.Run(".", 0, "inspect", s_base).Output;
        var json = Owt.Run(".", 0, "inspect", s_base, "--json").Json.Single();
        var tensors = json["tensors"]!.AsArray();
        Assert.That(output.Split('\n'), Has.Length.LessThan(40));
        Assert.That(output, Does.Match(@"\nchat_template +yes\n").And.Match(@"\nend_of_turn +<\|im_end\|> \(\d+\)\n").And.Match($@"\ntensors +{tensors.Count} F32: [\d,]+ values, "));
        Assert.That(json["tensor_types"]!.AsArray().Sum(static t => t!["parameters"]!.GetValue<long>()), Is.EqualTo(json["parameters"]!.GetValue<long>()));
        var all = Owt.Run(".", 0, "inspect", s_base, "--tensors").Output;
        Assert.That(tensors.Select(static t => t!["name"]!.ToString()).Where(n => !all.Contains($"  {n} ", StringComparison.Ordinal) || output.Contains(n, StringComparison.Ordinal)), Is.Empty);
    }

    [Test]
    public void No_help_shows_the_largest_number_there_is()
    {
        foreach (var option in Commands(CommandLine.Root()).SelectMany(static c => c.Options).Where(static o => o.HasDefaultValue))
        {
            Assert.That(option.GetDefaultValue(), Is.Not.EqualTo(int.MaxValue).And.Not.EqualTo(long.MaxValue), option.Name);
        }
    }

    private static IEnumerable<Command> Commands(Command command) => [command, .. command.Subcommands.SelectMany(Commands)];
}
