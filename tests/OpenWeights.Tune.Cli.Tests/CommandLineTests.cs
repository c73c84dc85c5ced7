using System.CommandLine;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Cli.Commands;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>Command lines: slips are answered with the nearest, and help has examples that work.</summary>
public sealed class CommandLineTests
{
    [TestCase("score --model m --text", "--text")]
    [TestCase("score --model m --input", "--input")]
    [TestCase("generate --model m --message", "--message")]
    [TestCase("generate --model m --prompt", "--prompt")]
    [TestCase("tokenize --model m --text", "--text")]
    [TestCase("export --format merged --model m --output o --adapter", "--adapter")]
    [TestCase("evaluate --model m --data", "--data")]
    public void An_option_without_its_value_is_told_as_one(string line, string option)
    {
        var error = Owt.Run(".", 1, line.Split(' ')).Error;
        Assert.That(error, Does.StartWith($"error: {option} needs a value, ").And.Not.Contain("Exception").And.Not.Contain("give one of"));
    }

    [TestCase("generate --model --message hi", "--model needs a value, DIR, before --message. (If --message is the value, write --model=--message.)")]
    [TestCase("tokenize --tokenizer x --text --offsets", "--text needs a value, TEXT, before --offsets.")]
    [TestCase("export --format --model x", "--format needs a value before --model.")]
    [TestCase("generate --model m --message=--prompt", null)]
    public void An_option_that_takes_the_next_one_for_its_value_is_told_as_one_without_a_value(string line, string? told)
    {
        var error = Owt.Run(".", told is null ? 2 : 1, line.Split(' ')).Error;
        Assert.That(error, told is null ? Does.Not.Contain("needs a value") : Does.StartWith($"error: {told}").And.Not.Contains("not expected"));
    }

    [TestCase("the path given is empty", "validate", "")]
    [TestCase("the path given is empty", "train", "", "--dry-run")]
    [TestCase("the path given is empty", "inspect", "")]
    [TestCase("--model: the path given is empty", "generate", "--model", "", "--prompt", "x")]
    [TestCase("--adapter: the path given is empty", "score", "--model", "m", "--adapter", "", "--text", "x")]
    public void A_path_that_a_shell_left_empty_is_told_as_one(string told, params string[] line)
    {
        Assert.That(Owt.Run(".", 1, line).Error, Does.Contain(told));
    }

    [TestCase("trian", "trian: there is no such command. Did you mean train?")]
    [TestCase("trian x.yaml --resume", "trian: there is no such command. Did you mean train?")]
    [TestCase("evalute --model m --data d", "evalute: there is no such command. Did you mean evaluate?")]
    [TestCase("bench trian --help-me", "trian: owt bench has no such command. Did you mean train?")]
    [TestCase("data preveiw x.yaml", "Did you mean preview?")]
    [TestCase("bench trian", "Did you mean train?")]
    [TestCase("train --resum x.yaml", "--resum: owt train has no such option. Did you mean --resume?")]
    [TestCase("train x.yaml --dryrun", "Did you mean --dry-run?")]
    [TestCase("train x.yaml --max-steps 4", "--max-steps: owt train has no such option. Settings of the YAML file are given without dashes, such as training.max_steps=10.")]
    [TestCase("generate --model m --promt x", "--promt: owt generate has no such option. Did you mean --prompt?")]
    [TestCase("export --format onnx", "--format: 'onnx' is not a valid value; valid values are peft, merged, gguf, gguf-lora.")]
    [TestCase("export --format mergd --model m --output o", "Did you mean merged?")]
    [TestCase("export --format gguf --dtype Q4_K --model m --output o", "Did you mean q4_k_m?")]
    [TestCase("generate --model m --prompt x --dtype bfloat15", "Did you mean bfloat16?")]
    [TestCase("evaluate --model m --data d --train-on asistant", "Did you mean assistant?")]
    [TestCase("init --family lama --output o", "Did you mean llama?")]
    [TestCase("generate --prompt x", "--model DIR is missing: base model")]
    [TestCase("generate runs/mine --prompt x", "'runs/mine' is not expected here; owt generate takes only options, such as --model runs/mine.")]
    [TestCase("generate --model m x", "'x' is not expected here; owt generate takes only options.")]
    [TestCase("train", "CONFIG.yaml is missing: the run's YAML file.")]
    [TestCase("generate --model m --prompt x --device gpu", "--device: 'gpu' is not a valid value; valid values are auto, cpu, cuda and cuda:N. Did you mean cuda?")]
    [TestCase("generate --model m --prompt x --device gpu:1", "Did you mean cuda:1?")]
    [TestCase("generate --model m --prompt x --device mps", "Of GPUs only NVIDIA's are supported.")]
    [TestCase("train x.yaml --resume --overwrite", "--resume and --overwrite contradict each other")]
    [TestCase("inspect runs/~/x", "only at the start of a path, for the home folder")]
    public void A_slip_is_answered_with_the_nearest_and_nothing_else(string line, string told)
    {
        var error = Owt.Run(".", 1, line.Split(' ')).Error;
        Assert.That(error, Does.Contain(told));
        Assert.That(error, Does.Not.Contain("wants --adapter"), "what depends on a wrong choice is not judged");
        Assert.That(error.Split('\n').Count(static l => l.StartsWith("error: ", StringComparison.Ordinal)), Is.LessThanOrEqualTo(3));
    }

    [TestCase("rows.jsonl", "use `owt data preview` for rows")]
    [TestCase("mine.yaml", "unknown file type")]
    [TestCase(".", "this folder contains neither a model")]
    public void Inspect_says_what_it_does_not_know(string path, string told)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.At("rows.jsonl"), "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
        File.WriteAllText(folder.At("mine.yaml"), "seed: 1\n");
        Assert.That(Owt.Run(folder.Root, 2, "inspect", path).Error, Does.Contain(told));
    }

    [TestCase("")]
    [TestCase("--verbose")]
    [TestCase("bench")]
    [TestCase("data")]
    public void A_command_that_is_left_out_is_answered_with_the_help_that_lists_them(string line)
    {
        var owt = Owt.Run(".", 1, line.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.That(owt.Error, Does.Contain("Commands:").And.Contain("Examples:").And.Not.Contain("Required command"));
        Assert.That(owt.Output, Is.Empty);
    }

    [TestCase("init", "bf16", "bfloat16")]
    [TestCase("init", "FP16", "float16")]
    [TestCase("init", "half", "float16")]
    [TestCase("init", "float", "float32")]
    [TestCase("generate", "f32", "float32")]
    [TestCase("export", "bfloat16", "bf16")]
    [TestCase("export", "float32", "f32")]
    [TestCase("export", "half", "f16")]
    public void A_dtype_may_be_given_by_another_of_its_names(string command, string given, string meant)
    {
        var root = CommandLine.Root();
        string[] rest = command == "generate" ? ["--model", "m", "--prompt", "x"] : command == "export" ? ["--format", "gguf", "--model", "m", "--output", "o"] : ["--output", "o"];
        var result = root.Parse([command, .. rest, "--dtype", given]);
        Assert.That(result.GetValue<string>("--dtype"), Is.EqualTo(meant));
        Assert.That(result.Errors, Is.Empty);
    }

    [TestCase("init --output there --hidden-size 16 --layers 1 --vocab-size 32")]
    [TestCase("export --format merged --model m --output there")]
    [TestCase("convert axolotl.yml --output there")]
    public void An_output_that_exists_is_a_wrong_command_line_and_stays_as_it_is(string line)
    {
        using var folder = new TemporaryFolder();
        folder.Write("there", "mine");
        folder.Write("axolotl.yml", "base_model: m\ndatasets: [ { path: rows.jsonl } ]\nsequence_len: 8\n");
        Assert.That(Owt.Run(folder.Root, 1, line.Split(' ')).Error, Does.Contain("error: --output: there already exists"));
        Assert.That(File.ReadAllText(folder.At("there")), Is.EqualTo("mine"));
    }

    [Test]
    public void Capitals_count_for_nothing()
    {
        using var folder = new TemporaryFolder();
        Assert.That(Owt.Run(folder.Root, 0, "INIT", "--family", "LLAMA", "--dtype", "BFloat16", "--hidden-size", "16", "--layers", "1", "--vocab-size", "32", "--output", "tiny").Output, Does.Contain("a model of the family llama "));
        Assert.That(Owt.Run(folder.Root, 1, "export", "--format", "PEFT", "--model", "tiny", "--output", "o").Error, Does.Contain("--format peft wants --adapter"));
    }

    [Test]
    [Platform(Exclude = "Win", Reason = "HOME is not set there")]
    public void The_home_folder_is_known_where_a_shell_leaves_the_tilde()
    {
        using var folder = new TemporaryFolder();
        folder.Folder("m");
        var line = $"HOME='{folder.Root}' exec \"$@\"";
        Assert.That(Owt.RunInShell(folder.Root, line, 2, "generate", "--model=~/m", "--prompt", "x").Error, Does.Contain($"{folder.At("m")} has no config.json"));
        Assert.That(Owt.RunInShell(folder.Root, line, 2, "generate", "--model", "~/n", "--prompt", "x").Error, Does.Contain($"{folder.At("n")}: no such folder or file. Did you mean {folder.At("m")}?"));
        Assert.That(Directory.Exists(folder.At("~")), Is.False);
    }

    [Test]
    public void Every_command_has_two_or_three_examples_that_it_understands()
    {
        var root = CommandLine.Root();
        foreach (var (name, command) in Commands(root, ""))
        {
            var examples = Examples.Of(name);
            Assert.That(examples, Has.Count.InRange(2, 3), name);
            foreach (var (line, _) in examples)
            {
                var words = Words(line.Split('>')[0].Trim()).ToList();
                Assert.That(words[0], Is.EqualTo("owt"));
                var parsed = root.Parse(words[1..]);
                Assert.That(parsed.Errors.Select(static e => e.Message).Where(static m => !m.Contains("does not exist", StringComparison.Ordinal)), Is.Empty, line);
                Assert.That(parsed.CommandResult.Command == command || name.Length == 0 || command.Subcommands.Count > 0, line);
            }
        }
    }

    [TestCase("")]
    [TestCase("train")]
    [TestCase("bench train")]
    public void Help_shows_them(string command) =>
        Assert.That(Owt.Run(".", 0, [.. command.Split(' ', StringSplitOptions.RemoveEmptyEntries), "--help"]).Output, Does.Contain("Examples:").And.Contains(Examples.Of(command)[0].Line));

    private static IEnumerable<(string Name, Command Command)> Commands(Command command, string name)
    {
        yield return (name, command);
        foreach (var inner in command.Subcommands.SelectMany(c => Commands(c, name.Length == 0 ? c.Name : $"{name} {c.Name}")))
        {
            yield return inner;
        }
    }

    // As a shell cuts a line, of which the examples use double quotes alone.
    private static IEnumerable<string> Words(string line) =>
        line.Split('"').SelectMany(static (part, i) => i % 2 == 1 ? [part] : part.Split(' ', StringSplitOptions.RemoveEmptyEntries));
}
