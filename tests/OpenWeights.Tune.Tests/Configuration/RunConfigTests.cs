using System.Text.Json;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>train.yaml: every problem at once, each with its place.</summary>
public sealed class RunConfigTests
{
    private const string Smallest = """
        output_dir: runs/x
        model: { path: base }
        data: { train: [ { path: rows.jsonl } ] }
        """;

    [Test]
    public void Every_problem_is_told_at_once_with_line_column_and_the_nearest_key()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", """
            output_dir: runs/x
            modle: { path: base }
            data:
              train: [ { path: rows.jsonl, limit: many } ]
              max_length: 1
            training:
              learning_rat: 1
              max_steps: 2.5
              lr_scheduler: cosin
              betas: [0.9]
            """);
        var problems = Assert.Throws<ConfigException>(() => RunConfigFile.Read(path, []))!.Problems.Select(static p => p.ToString()).ToList();
        Assert.That(problems, Has.One.Contains($"{path}:2:1: modle").And.One.Contains("did you mean model?"));
        Assert.That(problems, Has.One.Contains("model: this setting is required"));
        Assert.That(problems, Has.One.Contains($"{path}:4:39: data.train.0.limit: a whole number is expected, not 'many'"));
        Assert.That(problems, Has.One.Contains("data.max_length: 1 is out of range; it must be at least 2"));
        Assert.That(problems, Has.One.Contains("training.learning_rat").And.One.Contains("did you mean learning_rate?"));
        Assert.That(problems, Has.One.Contains("training.max_steps: a whole number is expected, not '2.5'"));
        Assert.That(problems, Has.One.Contains("Did you mean cosine?"));
        Assert.That(problems, Has.One.Contains("training.betas: two numbers are expected"));
    }

    [TestCase("model: { path: }", "model.path: this setting is required. Base model: a folder")]
    [TestCase("model: { path: '' }", "model.path: this setting is required. Base model: a folder")]
    [TestCase("model:", "model: this setting is required. The base model.")]
    [TestCase("training: { betas: [2, 0.9] }", "training.betas.0: 2 is out of range")]
    [TestCase("[1, 2]", "settings with their names are expected here")]
    [TestCase("seed: 1\n---\nseed: 2", "a second document begins here")]
    public void A_value_that_is_empty_or_of_the_wrong_kind_is_told_once_at_its_place(string text, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", text);
        var problems = Assert.Throws<ConfigException>(() => RunConfigFile.Read(path, []))!.Problems;
        var key = told.Split(':')[0];
        var about = problems.Where(p => $"{p.Key}: {p.Message}".StartsWith(key, StringComparison.Ordinal) || p.Message.StartsWith(key, StringComparison.Ordinal)).ToList();
        Assert.That(about, Has.Count.EqualTo(1), string.Join('\n', problems));
        Assert.That(about[0].ToString(), Does.Contain(told).And.StartWith($"{path}:{(text.Contains("---", StringComparison.Ordinal) ? 3 : 1)}:"));
        Assert.That(problems.Any(static p => p.Key == "training.betas"), Is.False);
    }

    [Test]
    public void An_empty_value_of_the_command_line_is_told_with_its_setting()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Smallest);
        var problems = Assert.Throws<ConfigException>(() => RunConfigFile.Read(path, ["model.path=", "output_dir=", "data.train="]))!.Problems.Select(static p => p.ToString());
        Assert.That(problems.Select(static p => string.Join(':', p.Split(':')[..3])), Is.EquivalentTo(new[]
        {
            "command line: model.path: this setting is required. Base model", "command line: output_dir: this setting is required. Output folder of the run, for config, manifest, metrics, checkpoints and the result.",
            "command line: data.train: this setting is required. Training data sets.",
        }));
    }

    [TestCase("model:\n\tpath: base\n", ":2:1: this is not valid YAML: a tab indents this line")]
    [TestCase("a: 1\nmodel: { path: base\ndata: { train: rows.jsonl }\n", ":2:8: this is not valid YAML: '{' is not closed")]
    [TestCase("a: 'it [is' # { here\nb: [ c, d{e, \"f]\"\n", ":2:4: this is not valid YAML: '[' is not closed")]
    [TestCase("a: 1\nb: \"C:\\models\"\n", ":2:7: this is not valid YAML: in double quotes a backslash begins an escape, and \\m is none here")]
    [TestCase("a: \"\\x\"\n", ":1:5: this is not valid YAML: in double quotes")]
    [TestCase("a: \"x [ {\"\na: 2\n", ":2:1: this is not valid YAML: Duplicate key a.")]
    public void A_slip_that_leaves_no_YAML_is_told_at_its_own_place(string text, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", text);
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(path + told));
    }

    [TestCase("adapter: { r: \"8\" }", "adapter.r: a whole number is expected, and quotes make a text of it; write 8 without them.")]
    [TestCase("training: { learning_rate: '2e-4' }", "training.learning_rate: a number is expected, and quotes make a text of it; write 2e-4 without them.")]
    [TestCase("training: { learning_rate: \"fast\" }", "training.learning_rate: a number is expected, not 'fast'.")]
    [TestCase("evaluation: { keep_best: \"true\" }", "evaluation.keep_best: true or false is expected, and quotes make a text of it; write true without them.")]
    [TestCase("adapter: { target_modules: q_proj,v_proj }", "adapter.v_proj: there is no such setting. Within braces a comma ends a value; several values are a list in brackets: [q_proj, v_proj].")]
    [TestCase("training: { epochs: 0 }", "training.epochs: 0 is out of range; it must be above 0.")]
    public void A_value_that_is_written_otherwise_than_meant_is_told_how_to_write(string setting, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", $"{Smallest}\n{setting}\n");
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(told));
    }

    [Test]
    public void Spaces_around_the_equals_sign_of_the_command_line_count_for_nothing()
    {
        using var folder = new TemporaryFolder();
        Assert.That(RunConfigFile.Read(folder.Write("train.yaml", Smallest), ["training.max_steps = 10"]).Training.MaxSteps, Is.EqualTo(10));
    }

    [Test]
    public void Settings_of_the_command_line_replace_the_files()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Smallest);
        var config = RunConfigFile.Read(path, ["training.max_steps=10", "data.train.0.limit=3", "adapter.target_modules=[q_proj, v_proj]", "adapter.r=4", "model.dtype=bfloat16"]);
        Assert.That(config.Training.MaxSteps, Is.EqualTo(10));
        Assert.That(config.Data.Train[0].Limit, Is.EqualTo(3));
        Assert.That(config.Adapter!.TargetModules.Values, Is.EqualTo(new[] { "q_proj", "v_proj" }));
        Assert.That(config.Adapter.Rank, Is.EqualTo(4));
        Assert.That(config.Model.Dtype, Is.EqualTo("bfloat16"));
    }

    [Test]
    public void Values_of_a_chat_template_are_whatever_YAML_says_and_come_back_as_they_were()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", """
            output_dir: runs/x
            model: { path: base }
            data:
              train: rows.jsonl
              chat_template_kwargs: { flag: true, word: "true", empty: null, whole: 3, share: 0.5, list: [a, 1], map: { x: off } }
            """);
        var config = RunConfigFile.Read(path, ["data.chat_template_kwargs.effort=low"]);
        const string expected = """{"flag":true,"word":"true","empty":null,"whole":3,"share":0.5,"list":["a",1],"map":{"x":"off"},"effort":"low"}""";
        Assert.That(JsonSerializer.Serialize(config.Data.ChatTemplateKwargs), Is.EqualTo(expected));
        var again = folder.Write("again.yaml", ConfigWriter.Write(config));
        Assert.That(JsonSerializer.Serialize(RunConfigFile.Read(again, []).Data.ChatTemplateKwargs), Is.EqualTo(expected));
    }

    [TestCase("{ messages: 1 }", "data.chat_template_kwargs.messages: 'messages' is the chat's own")]
    [TestCase("{ eos_token: x }", "'eos_token' is the tokenizer's")]
    [TestCase("{ a-b: 1 }", "'a-b' is no name of a template's variable")]
    [TestCase("[ 1 ]", "names with values are expected here, such as `{ enable_thinking: false }`")]
    public void Variables_that_cannot_be_set_are_told(string values, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Smallest);
        Assert.That(() => RunConfigFile.Read(path, [$"data.chat_template_kwargs={values}"]), Throws.InstanceOf<ConfigException>().With.Message.Contains(told));
    }

    [Test]
    public void A_wrong_setting_of_the_command_line_is_told_as_such()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Smallest);
        Assert.That(() => RunConfigFile.Read(path, ["training.max_step=10"]), Throws.InstanceOf<ConfigException>().With.Message.Contains("command line: training.max_step").And.Message.Contains("max_steps"));
        Assert.That(() => RunConfigFile.Read(path, ["no equals sign"]), Throws.InstanceOf<ConfigException>().With.Message.Contains("key=value"));
    }

    [Test]
    public void Broken_YAML_is_told_with_its_place()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", "model: { path: [\nseed: 1\n");
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains($"{path}:").And.Message.Contains("not valid YAML"));
    }

    [TestCase("objective: { type: ppo }", "objective.type")]
    public void What_this_version_does_not_implement_is_refused_by_name(string setting, string key)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Smallest + "\n" + setting);
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(key));
    }

    [TestCase("quantization: { type: nf4 }", "quantization: a quantized base model cannot be trained")]
    [TestCase("adapter: {}\nquantization: { block_size: 96 }", "quantization.block_size: 96 is not a power of two")]
    [TestCase("adapter: { use_dora: true, init_lora_weights: pissa }", "adapter.use_dora")]
    [TestCase("adapter: { target_modules: .*q_proj, layers_to_transform: [1] }", "adapter.layers_to_transform")]
    [TestCase("adapter: { layers_pattern: layers }", "adapter.layers_pattern")]
    [TestCase("adapter: { init_lora_weights: olorra }", "adapter.init_lora_weights: 'olorra' is not a start; valid are true, gaussian, pissa")]
    [TestCase("adapter: {}\ntraining: { trainable: norms_and_biases }", "adapter: training.trainable")]
    public void Settings_that_do_not_go_together_are_refused_by_name(string settings, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Smallest + "\n" + settings);
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(told));
    }

    [Test]
    public void A_config_that_is_written_out_reads_back_the_same()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Smallest + """

            adapter: { target_modules: ".*\\.(q|v)_proj", rank_pattern: { q_proj: 4 }, alpha_pattern: { "yes": 1.5 }, init_lora_weights: true, modules_to_save: [lm_head] }
            training: { learning_rate: 1.0e-5, max_steps: 7 }
            """);
        var config = RunConfigFile.Read(path, []);
        var written = folder.Write("written.yaml", ConfigWriter.Write(config));
        Assert.That(ConfigWriter.Write(RunConfigFile.Read(written, [])), Is.EqualTo(ConfigWriter.Write(config)));
        Assert.That(RunConfigFile.Read(written, []).Adapter!.RankPattern["q_proj"], Is.EqualTo(4));
    }

    [Test]
    public void Inputs_are_looked_for_beside_the_config()
    {
        using var folder = new TemporaryFolder();
        folder.Write("base/config.json", "{}");
        var config = RunConfigFile.Read(folder.Write("train.yaml", Smallest), []);
        Assert.That(config.Model.Path, Is.EqualTo(folder.At("base")));
    }

    [Test]
    public void Every_config_that_is_shipped_is_valid()
    {
        var files = Directory.GetFiles(Path.Combine(SharedFiles.Root, "configs"), "*.yaml");
        Assert.That(files, Is.Not.Empty);
        foreach (var file in files)
        {
            Assert.That(() => RunConfigFile.Read(file, []), Throws.Nothing, file);
        }
    }

    [Test]
    public void The_schema_that_is_shipped_is_the_programs()
    {
        var path = Path.Combine(SharedFiles.Root, "configs", "train.schema.json");
        Assert.That(File.ReadAllText(path), Is.EqualTo(ConfigSchema.Write()), "write it again with: owt validate --schema > configs/train.schema.json");
    }

    [Test]
    public void The_page_of_all_settings_is_the_programs()
    {
        var path = Path.Combine(SharedFiles.Root, "docs", "settings.md");
        Assert.That(File.ReadAllText(path).ReplaceLineEndings("\n"), Is.EqualTo(SettingsReference.Write()), "write it again with: owt validate --reference > docs/settings.md");
    }
}
