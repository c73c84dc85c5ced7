using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Tests.Export;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>What a run would refuse before its first step is told with its place, without reading a weight.</summary>
public sealed class RunCheckTests
{
    [TestCase("target_modules: [q_proj, q_porj]", ":3:37: adapter.target_modules.1: the model has no module named q_porj; did you mean q_proj?")]
    [TestCase("exclude_modules: [v_porj]", ":3:30: adapter.exclude_modules.0: the model has no module named v_porj; did you mean v_proj?")]
    [TestCase("modules_to_save: [lm_haed]", ":3:30: adapter.modules_to_save.0: the model has no module named lm_haed; did you mean lm_head?")]
    [TestCase("target_modules: \"q_proj(\"", ":3:28: adapter.target_modules: 'q_proj(' is not a regular expression")]
    [TestCase("target_modules: q_porj", ":3:28: adapter.target_modules: the model has no module named q_porj; did you mean q_proj?")]
    [TestCase("rank_pattern: { q_porj: 8 }", ":3:36: adapter.rank_pattern.q_porj: this matches no layer of the model; did you mean q_proj?")]
    [TestCase("layers_to_transform: [0, 7], target_modules: [q_proj]", ":3:33: adapter.layers_to_transform: the model has no layer 7; its 2 layers are numbered from 0.")]
    [TestCase("init_lora_weights: pissa, r: 400", ":3:31: adapter.init_lora_weights: pissa: rank 400 exceeds the number of singular values of")]
    [TestCase("lora_bias: true, target_modules: [embed_tokens]", "an embedding cannot be adapted with lora_bias")]
    public void Modules_are_told_with_line_column_and_the_nearest_name(string adapter, string told)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 3);
        var path = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: model, device: cpu }}\nadapter: {{ {adapter} }}\ndata: {{ train: rows.jsonl }}\n");
        var problems = RunCheck.Problems(RunConfigFile.Open(path, []));
        Assert.That(problems.Select(static p => p.ToString()), Has.Some.Contains(told));
        Assert.That(() => TrainingRun.Prepare(RunConfigFile.Read(path, []), new SilentListener()), Throws.InstanceOf<InvalidDataException>().Or.InstanceOf<ArgumentException>(), "the run itself refuses it too");
    }

    [TestCase("{% for m in messages %}", true)]
    [TestCase("{% for m in messages %}", false)]
    [TestCase("{{ raise_exception('no') }}", true)]
    public void A_chat_template_that_fails_is_told_with_its_file(string template, bool isNamed)
    {
        using var folder = new TemporaryFolder();
        SmallTokenizer.Write(TinyModel.Write(folder));
        var path = folder.Write(isNamed ? "mine.jinja" : "model/chat_template.jinja", template);
        folder.Write("rows.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n");
        var yaml = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: model, device: cpu{(isNamed ? ", chat_template: mine.jinja" : "")} }}\ndata: {{ train: rows.jsonl }}\n");
        var error = Assert.Catch(() => TrainingRun.Prepare(RunConfigFile.Read(yaml, []), new SilentListener()))!;
        Assert.That(error.Message, Does.Contain($"{path}, line 1: "));
        Assert.That(error.Message, template.Contains("raise", StringComparison.Ordinal) ? Does.Contain("rows.jsonl:1: ") : Does.Not.Contain("rows.jsonl"), "no row is to blame for a template that is none");
    }

    [TestCase("training.epochs: 2", ":4:1: training.epochs: a dotted name is understood on the command line alone; write `epochs: 2` in the section training.")]
    [TestCase("training:\n  epochs:1", ":5:3: training: a space is missing after the colon; write `epochs: 1`.")]
    [TestCase("training.epochs = 2", ":4:1: this is not valid YAML: a setting and its value are separated by a colon and a space; write `training.epochs: 2`.")]
    public void Slips_of_writing_a_setting_are_told_with_what_to_write(string line, string told)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: m }}\ndata: {{ train: rows.jsonl }}\n{line}\n");
        Assert.That(() => RunConfigFile.Read(path, []), Throws.InstanceOf<ConfigException>().With.Message.Contains(told));
    }

    [TestCase("rows.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n", "this is a file of rows; a YAML file is expected")]
    [TestCase("config.json", "{\"model_type\": \"llama\", \"hidden_size\": 4}", "this is a model's config.json; a YAML file is expected")]
    public void A_file_of_another_kind_in_the_place_of_the_YAML_is_told_once(string name, string text, string told)
    {
        using var folder = new TemporaryFolder();
        var problems = Assert.Throws<ConfigException>(() => RunConfigFile.Read(folder.Write(name, text), []))!.Problems;
        Assert.That(problems.Single().Message, Does.Contain(told));
    }

    [TestCase("tatsu-lab/alpaca", "To name a data set of the Hugging Face Hub, write hub://tatsu-lab/alpaca")]
    [TestCase("\u201crows.jsonl\u201d", "Its quotation marks are typographic ones")]
    public void Rows_that_are_nowhere_are_told_with_what_was_meant(string train, string told)
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        var path = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: model, device: cpu }}\ndata: {{ train: {train} }}\n");
        Assert.That(RunCheck.Problems(RunConfigFile.Open(path, [])).Select(static p => p.ToString()), Has.One.Contains(":3:16: data.train.0.path: ").And.One.Contains(told));
    }

    [Test]
    public void The_columns_of_the_file_are_told_where_fields_names_too_few_and_question_and_answer_can_be_named()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        folder.Write("rows.csv", "Nummer;Frage;Antwort\n1;a?;b\n");
        string Problems(string fields)
        {
            var path = folder.Write("train.yaml", $"output_dir: x\nmodel: {{ path: model, device: cpu }}\ndata: {{ train: {{ path: rows.csv, fields: {fields} }} }}\n");
            return Assert.Throws<InvalidDataException>(() => TrainingRun.Prepare(RunConfigFile.Read(path, []), new SilentListener()))!.Message;
        }

        Assert.That(Problems("{ prompt: Frage }"), Does.Contain("its keys are Nummer, Frage, Antwort, of which the setting fields makes prompt alone."));
        Assert.That(Problems("{ question: Frage, answer: Antworten }"), Does.Contain("the config maps answer to \"Antworten\"").And.Contain("it has Nummer, Frage, Antwort."));
    }

    [Test]
    public void Modules_are_told_where_the_weights_are_not_here_yet()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 3);
        File.Delete(folder.At("model", "model.safetensors"));
        var path = folder.Write("train.yaml", "output_dir: x\nmodel: { path: model, device: cpu }\nadapter: { target_modules: [q_porj] }\ndata: { train: rows.jsonl }\n");
        var problems = RunCheck.Problems(RunConfigFile.Open(path, [])).Select(static p => p.ToString()).ToList();
        Assert.That(problems, Has.One.Contains("did you mean q_proj?"));
        Assert.That(problems, Has.One.Contains(":2:16: model.path:"), "the run would refuse that too");
    }

    [Test]
    public void The_model_the_layer_and_the_folder_are_told()
    {
        using var folder = new TemporaryFolder();
        var model = TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 3);
        folder.Write("file", "");
        var path = folder.Write("train.yaml", $"output_dir: {folder.At("file", "run")}\nmodel: {{ path: model, device: cpu }}\ndata: {{ train: rows.jsonl }}\ntraining: {{ first_trained_layer: 2 }}\n");
        Assert.That(Told(path), Has.One.Contains(":1:13: output_dir:").And.One.Contains("is a file"));
        Assert.That(Told(path), Has.One.Contains(":4:34: training.first_trained_layer: there is no layer 2"));
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(model, "config.json")))!.AsObject();
        config["model_type"] = "lama";
        File.WriteAllText(Path.Combine(model, "config.json"), config.ToJsonString());
        Assert.That(Told(path), Has.One.Contains(":2:16: model.path:").And.One.Contains("'lama' is not a supported family"));
    }

    [Test]
    public void A_right_config_has_no_problem()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 3);
        Assert.That(Told(folder.Write("train.yaml", "output_dir: x\nmodel: { path: model, device: cpu }\nadapter: { target_modules: [q_proj, self_attn.v_proj] }\ndata: { train: rows.jsonl }\n")), Is.Empty);
    }

    [Test]
    public void Settings_files_modules_and_the_chat_template_are_told_at_once()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 3);
        var path = folder.Write("train.yaml", """
            output_dir: x
            model: { path: model, device: gpu, dtype: bfloat, chat_template: lama3 }
            adapter: { r: 0, lora_alhpa: 4, target_modules: [q_porj] }
            data:
              train: [ 3, { path: rows.json } ]
            training: { epochs: many, micro_batch_size: 2 }
            """);
        var told = Told(path);
        foreach (var expected in new[]
        {
            ":2:31: model.device: 'gpu' is not a valid value; valid values are auto, cpu, cuda and cuda:N. Did you mean cuda?", ":2:43: model.dtype: 'bfloat' is not a valid value", ":2:66: model.chat_template: unknown template 'lama3'", "Did you mean llama3?",
            ":3:15: adapter.r: 0 is out of range", ":3:18: adapter.lora_alhpa:", ":3:50: adapter.target_modules.0: the model has no module named q_porj; did you mean q_proj?",
            ":5:12: data.train.0.path:", ":5:23: data.train.1.path:", "rows.jsonl?", ":6:21: training.epochs:",
        })
        {
            Assert.That(told, Has.One.Contains(expected), expected);
        }

        Assert.That(told, Has.Count.EqualTo(9), "one for each mistake");
    }

    [Test]
    public void What_is_said_of_a_wrong_setting_is_said_once_and_nothing_is_said_of_its_default()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 3);
        Assert.That(Told(folder.Write("a.yaml", "output_dir: x\nmodel: { path: model, device: cpu }\nadapter: lora\nquantization: { type: nf4 }\ndata: { train: rows.jsonl }\n")), Has.Count.EqualTo(1).And.All.Contains("a.yaml:3:10: adapter: "));
        Assert.That(Told(folder.Write("b.yaml", "model: { path: model, device: cpu }\ndata: {}\n")).Select(static t => t.Split(": ")[1]), Is.EqualTo(new[] { "data.train", "output_dir" }));
        Assert.That(Told(folder.Write("c.yaml", "output_dir: x\nmodel: model\ndata: { train: nothing.jsonl }\n")), Has.Count.EqualTo(2).And.One.Contains("c.yaml:2:8: model: ").And.One.Contains("c.yaml:3:16: data.train.0.path: "));
    }

    [Test]
    public void A_run_that_is_given_as_the_base_is_answered_with_the_two_settings_to_write()
    {
        using var folder = new TemporaryFolder();
        TinyModel.Write(folder);
        TinyModel.WriteRows(folder, 3);
        const string rest = "adapter: { r: 2 }\ndata: { train: rows.jsonl, packing: false }\ntraining: { max_steps: 1 }\n";
        using (var run = TrainingRun.Prepare(RunConfigFile.Read(folder.Write("train.yaml", $"output_dir: {folder.At("run")}\nmodel: {{ path: model, device: cpu }}\n{rest}"), []), new SilentListener()))
        {
            _ = run.Run(overwrite: false, "", default);
        }

        var told = Told(folder.Write("more.yaml", $"output_dir: more\nmodel: {{ path: run, device: cpu }}\n{rest}"));
        Assert.That(told, Has.Count.EqualTo(1).And.All.Contains($"more.yaml:2:16: model.path: {folder.At("run")} is a run that trained an adapter").And.All.Contains($"set model.path: {folder.At("model")}, and adapter.path: run "));
    }

    private static List<string> Told(string path) => [.. RunCheck.Problems(RunConfigFile.Inspect(path, [])).Select(static p => p.ToString())];
}
