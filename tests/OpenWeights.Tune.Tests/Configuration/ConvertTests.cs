using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Configuration.Foreign;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>Configs of other programs, as their own examples have them.</summary>
public sealed class ConvertTests
{
    [TestCase("axolotl.yml", "Axolotl")]
    [TestCase("llamafactory.yaml", "LLaMA-Factory")]
    [TestCase("torchtune.yaml", "torchtune")]
    [TestCase("trl.yaml", "TRL")]
    [TestCase("mlx-lm.yaml", "mlx-lm")]
    public void A_config_of_another_program_is_recognised_and_said_so_once(string name, string tool)
    {
        var problems = Assert.Throws<ConfigException>(() => RunConfigFile.Read(Sample(name), []))!.Problems;
        Assert.That(problems, Has.Count.EqualTo(1));
        Assert.That(problems[0].ToString(), Does.Contain($"a config of {tool}").And.Contains($"owt convert {Sample(name)}"));
    }

    [TestCase("axolotl.yml")]
    [TestCase("llamafactory.yaml")]
    [TestCase("torchtune.yaml")]
    [TestCase("trl.yaml")]
    [TestCase("mlx-lm.yaml")]
    public void What_convert_writes_is_a_config_of_this_program(string name)
    {
        using var folder = new TemporaryFolder();
        var text = ConfigConverter.Convert(Sample(name)).Write();
        Assert.That(() => RunConfigFile.Read(folder.Write("train.yaml", text), []), Throws.Nothing, text);
    }

    [Test]
    public void Axolotls_settings_are_ours()
    {
        var (config, left) = Convert("axolotl.yml");
        Assert.That((config.Adapter!.Rank, config.Adapter.LoraAlpha, config.Adapter.LoraDropout), Is.EqualTo((32, 16, 0.05)));
        Assert.That(config.Adapter.TargetModules.Values, Has.Count.EqualTo(7));
        Assert.That(config.Quantization!.Type, Is.EqualTo("nf4"));
        Assert.That(config.Data.Train.Select(static d => d.Format), Is.EqualTo(new[] { "instruction", "chat" }));
        Assert.That(config.Data.Train[1].Fields, Is.EquivalentTo(new Dictionary<string, string> { ["messages"] = "conversations", ["role"] = "from", ["content"] = "value" }));
        Assert.That(config.Data.Train[1].Roles["user"], Is.EqualTo("human"));
        Assert.That((config.Data.MaxLength, config.Data.Packing, config.Data.EvalFraction, config.Data.OverLength), Is.EqualTo((4096, true, 0.1, "drop")));
        Assert.That((config.Training.MicroBatchSize, config.Training.GradientAccumulationSteps, config.Training.Epochs), Is.EqualTo((2, 4, 1.0)));
        Assert.That((config.Training.Optimizer, config.Training.WarmupRatio, config.Training.WeightDecay), Is.EqualTo(("paged_adamw_8bit", (double?)0.1, 0.0)));
        Assert.That(config.Training.Betas, Is.EqualTo(new[] { 0.9, 0.999 }), "Axolotl's own, which its file does not say");
        Assert.That(config.Training.ActivationCheckpointing, Is.EqualTo("block"));
        Assert.That(left, Is.SupersetOf(new[] { "loss_watchdog_threshold", "wandb_name", "flash_attention", "special_tokens.pad_token", "saves_per_epoch" }));
        Assert.That(left, Has.None.EqualTo("lora_model_dir"), "what is left empty says nothing");
    }

    [Test]
    public void What_torchtunes_builders_and_torchs_optimizers_do_by_default_is_written()
    {
        using var folder = new TemporaryFolder();
        RunConfig Of(string optimizer, string rest = "") => RunConfigFile.Parse("c.yaml", ConfigConverter.Convert(folder.Write("t.yaml", $"model:\n  _component_: torchtune.models.llama3_2.lora_llama3_2_1b\n  lora_attn_modules: [q_proj]\noptimizer:\n  _component_: {optimizer}\n  lr: 1e-4\ndataset:\n  _component_: torchtune.datasets.alpaca_cleaned_dataset\n{rest}")).Write(), ["model.path=m", "data.train=rows.jsonl"]).Config;
        var config = Of("torch.optim.AdamW");
        Assert.That((config.Adapter!.Rank, config.Adapter.LoraAlpha), Is.EqualTo((8, 16.0)));
        Assert.That((config.Training.WeightDecay, config.Data.TrainOn), Is.EqualTo((0.01, "all")));
        Assert.That(Of("torch.optim.Adam").Training.WeightDecay, Is.Zero);
        Assert.That(Of("torch.optim.AdamW", "  train_on_input: false\n").Data.TrainOn, Is.EqualTo("assistant"));
    }

    [TestCase("sft", "", false)]
    [TestCase("pt", "", true)]
    [TestCase("pt", "packing: false\n", false)]
    public void LLaMA_Factory_packs_for_pre_training_and_checkpoints_activations(string stage, string rest, bool packs)
    {
        using var folder = new TemporaryFolder();
        var config = RunConfigFile.Parse("c.yaml", ConfigConverter.Convert(folder.Write("f.yaml", $"model_name_or_path: m\nstage: {stage}\nfinetuning_type: lora\ntemplate: default\n{rest}")).Write(), ["data.train=rows.jsonl"]).Config;
        Assert.That(config.Data.Packing, Is.EqualTo(packs));
        Assert.That(config.Training.ActivationCheckpointing, Is.EqualTo("block"));
    }

    [TestCase("axolotl.yml", "base_model: m\nsequence_len: 100\nmicro_batch_size: 1\nchat_template_kwargs:\n  enable_thinking: false\n  style: short\ndatasets:\n  - { path: rows.jsonl, type: chat_template }\n", "style")]
    [TestCase("factory.yaml", "model_name_or_path: m\nstage: sft\nfinetuning_type: lora\ntemplate: qwen3\nenable_thinking: false\n", null)]
    public void Variables_of_the_chat_template_are_ours(string name, string text, string? other)
    {
        using var folder = new TemporaryFolder();
        var converted = ConfigConverter.Convert(folder.Write(name, text));
        var config = RunConfigFile.Parse("converted.yaml", converted.Write(), ["data.train=rows.jsonl"]).Config;
        Assert.That(config.Data.ChatTemplateKwargs["enable_thinking"], Is.EqualTo(false));
        Assert.That(config.Data.ChatTemplateKwargs, Has.Count.EqualTo(other is null ? 1 : 2));
        Assert.That(converted.LeftOut.Select(static l => l.Name), Has.None.Contains("kwargs").And.None.Contains("enable_thinking"));
        Assert.That(converted.LeftOut.Where(static l => l.Name == "template").Select(static l => l.Why), Has.All.Contains("the model's own chat template"));
    }

    [TestCase("[assistant]", false)]
    [TestCase("[assistant, user]", true)]
    public void What_says_no_more_than_what_is_written_out_is_not_listed(string roles, bool listed)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("axolotl.yml", $"base_model: m\nsequence_len: 100\nmicro_batch_size: 1\ndatasets:\n  - {{ path: rows.jsonl, type: chat_template, roles_to_train: {roles} }}\ngradient_checkpointing_kwargs: {{ use_reentrant: false }}\n");
        var left = ConfigConverter.Convert(path).LeftOut;
        Assert.That(left.Any(static l => l.Name == "datasets[0].roles_to_train"), Is.EqualTo(listed));
        Assert.That(left.Single(static l => l.Name == "gradient_checkpointing_kwargs.use_reentrant").Why, Is.EqualTo("checkpointing has no further settings here."));
    }

    [Test]
    public void LLaMA_Factorys_settings_and_data_sets_are_ours()
    {
        using var folder = new TemporaryFolder();
        File.Copy(Sample("llamafactory.yaml"), folder.At("lf.yaml"));
        folder.Write("data/dataset_info.json", """
            { "identity": { "file_name": "identity.json" },
              "alpaca_en_demo": { "file_name": "talks.json", "formatting": "sharegpt", "columns": { "messages": "talk" }, "tags": { "role_tag": "who", "user_tag": "human" } } }
            """);
        var converted = ConfigConverter.Convert(folder.At("lf.yaml"));
        var config = RunConfigFile.Read(folder.Write("train.yaml", converted.Write()), []);
        Assert.That(config.Data.Train.Select(static d => (Path.GetFileName(d.Path), d.Format, d.Limit)), Is.EqualTo(new[] { ("identity.json", "instruction", (int?)1000), ("talks.json", "chat", 1000) }));
        Assert.That(config.Data.Train[1].Fields, Is.EquivalentTo(new Dictionary<string, string> { ["messages"] = "talk", ["role"] = "who" }));
        Assert.That((config.Adapter!.Rank, config.Adapter.LoraAlpha, config.Adapter.TargetModules.Values[0]), Is.EqualTo((8, 16.0, "all-linear")));
        Assert.That((config.Training.LearningRate, config.Training.Epochs, config.Training.WarmupRatio), Is.EqualTo((1e-4, 3.0, (double?)0.1)));
        Assert.That((config.Model.Dtype, config.Checkpoint.EverySteps, config.Evaluation.EverySteps, config.Data.OverLength), Is.EqualTo(("bfloat16", 500L, 500L, "truncate")));
    }

    [Test]
    public void Torchtunes_sections_are_ours()
    {
        var (config, _) = Convert("torchtune.yaml");
        Assert.That(config.Adapter!.TargetModules.Values, Is.EqualTo(new[] { "q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj" }));
        Assert.That((config.Adapter.Rank, config.Adapter.LoraAlpha), Is.EqualTo((64, 128.0)));
        Assert.That((config.Training.LearningRate, config.Training.WarmupSteps, config.Training.LrScheduler, config.Training.MaxGradNorm), Is.EqualTo((3e-4, 100L, "cosine", 0.0)));
        Assert.That((config.Data.MaxLength, config.Data.Packing, config.Data.Train[0].Format), Is.EqualTo((1024, false, "completion")));
        Assert.That(config.Data.Train[0].Fields, Is.EquivalentTo(new Dictionary<string, string> { ["prompt"] = "question", ["completion"] = "answer" }));
        Assert.That((config.Model.Path, config.Model.Device.ToString(), config.Model.Dtype), Is.EqualTo(("/tmp/Llama-3.2-1B-Instruct/", "cuda", "bfloat16")));
    }

    [Test]
    public void TRLs_settings_are_ours()
    {
        var (config, left) = Convert("trl.yaml");
        Assert.That((config.Model.Path, config.Model.Dtype), Is.EqualTo(("Qwen/Qwen2-0.5B", "bfloat16")));
        Assert.That((config.Training.LrScheduler, config.Training.WarmupSteps, config.Training.Epochs), Is.EqualTo(("constant", 5L, 1.0)));
        Assert.That(config.Training.Betas, Is.EqualTo(new[] { 0.9, 0.95 }));
        Assert.That((config.Data.TrainOn, config.Data.Packing, config.Data.MaxLength), Is.EqualTo(("assistant", true, 1024)));
        Assert.That(left, Does.Contain("push_to_hub"));
    }

    [TestCase("", 1024, "truncate", false)]
    [TestCase("max_length: null\n", 2048, "error", true)]
    [TestCase("max_length:\nmodel_name_or_path: model\n", 4096, "error", false)]
    public void TRL_cuts_no_row_where_its_file_says_no_maximum(string given, int length, string overLength, bool told)
    {
        using var folder = new TemporaryFolder();
        folder.Write("model/config.json", """{"max_position_embeddings": 4096}""");
        var converted = ConfigConverter.Convert(folder.Write("trl.yaml", $"{(given.Contains("model_name", StringComparison.Ordinal) ? "" : "model_name_or_path: m\n")}per_device_train_batch_size: 2\n{given}"));
        var config = RunConfigFile.Parse("c.yaml", converted.Write(), ["data.train=rows.jsonl"]).Config;
        Assert.That((config.Data.MaxLength, config.Data.OverLength), Is.EqualTo((length, overLength)));
        Assert.That(converted.LeftOut.Any(static l => l.Name == "max_length"), Is.EqualTo(told));
    }

    [TestCase("use_peft: true\nload_in_4bit: true\n", false)]
    [TestCase("use_peft: true\nload_in_4bit: true\nuse_bnb_nested_quant: true\n", true)]
    [TestCase("", null)]
    public void TRL_quantizes_the_scales_only_where_its_file_says_so(string given, bool? expected)
    {
        using var folder = new TemporaryFolder();
        var converted = ConfigConverter.Convert(folder.Write("trl.yaml", $"model_name_or_path: m\nper_device_train_batch_size: 2\n{given}"));
        Assert.That(RunConfigFile.Parse("c.yaml", converted.Write(), ["data.train=rows.jsonl"]).Config.Quantization?.DoubleQuant, Is.EqualTo(expected));
    }

    [Test]
    public void Mlx_lms_settings_are_ours()
    {
        var (config, left) = Convert("mlx-lm.yaml");
        Assert.That((config.Adapter!.Rank, config.Adapter.LoraAlpha), Is.EqualTo((8, 160.0)), "its scale of 20 multiplies as it is: alpha / r");
        Assert.That(config.Adapter.TargetModules.Values, Is.EqualTo(new[] { "self_attn.q_proj", "self_attn.v_proj" }));
        Assert.That((config.Training.MaxSteps, config.Training.LrScheduler, config.Training.WarmupSteps), Is.EqualTo(((long?)1000, "cosine", 100L)));
        Assert.That((Path.GetFileName(config.Data.Train[0].Path), Path.GetFileName(config.Data.Eval[0].Path), config.Data.TrainOn), Is.EqualTo(("train.jsonl", "valid.jsonl", "completion")));
        Assert.That(left, Does.Contain("num_layers"), "the model is not here");
        Assert.That((config.Training.MicroBatchSize, config.Training.WeightDecay), Is.EqualTo(((int?)4, 0.01)), "MLX's AdamW decays");
    }

    [TestCase("num_layers: 2\n", "adapter.layers_to_transform", "[3, 4]")]
    [TestCase("num_layers: 2\nfine_tune_type: full\n", "training.first_trained_layer", "3")]
    [TestCase("num_layers: -1\n", "adapter.layers_to_transform", null)]
    [TestCase("num_layers: 5\n", "adapter.layers_to_transform", null)]
    [TestCase("", "adapter.layers_to_transform", null)]
    public void The_last_layers_of_mlx_lm_are_counted_where_the_models_config_is_here(string layers, string setting, string? expected)
    {
        using var folder = new TemporaryFolder();
        folder.Write("model/config.json", """{"num_hidden_layers": 5}""");
        var converted = ConfigConverter.Convert(folder.Write("mlx.yaml", $"model: model\ndata: data\niters: 10\noptimizer: adam\noptimizer_config: {{ adam: {{ eps: 1.0e-6 }} }}\n{layers}"));
        Assert.That(converted.Settings.GetValueOrDefault(setting), Is.EqualTo(expected));
        Assert.That(converted.LeftOut.Select(static l => l.Name), Has.None.Contains("layers"));
        Assert.That((converted.Settings["training.weight_decay"], converted.Settings["training.eps"]), Is.EqualTo(("0", "1.0e-6")));
    }

    [Test]
    public void A_data_set_of_the_Hub_is_told_in_whole_sentences()
    {
        using var folder = new TemporaryFolder();
        var converted = ConfigConverter.Convert(folder.Write("tune.yaml", "model: { _component_: torchtune.models.llama3.llama3_8b }\ndataset: { _component_: torchtune.datasets.alpaca_cleaned_dataset }\nbatch_size: 2\n"));
        Assert.That(converted.LeftOut, Has.Some.EqualTo(("dataset", "alpaca_cleaned_dataset: data sets are not downloaded from the Hugging Face Hub; download it yourself and set data.train.0.path to its files (Parquet or JSON lines).")));
    }

    [Test]
    public void Each_line_says_where_it_comes_from_and_the_rest_is_listed()
    {
        var text = ConfigConverter.Convert(Sample("axolotl.yml")).Write();
        Assert.That(text, Does.Match(@"(?m)^  micro_batch_size: 2 +# micro_batch_size$").And.Match(@"(?m)^  eval_fraction: 0\.1 +# val_set_size$").And.Contains("# Not converted:"));
    }

    [Test]
    public void Our_own_configs_are_no_one_elses()
    {
        foreach (var file in Directory.GetFiles(Path.Combine(SharedFiles.Root, "configs"), "*.yaml"))
        {
            Assert.That(() => ConfigConverter.Convert(file), Throws.InstanceOf<ConfigException>().With.Message.Contains("already a config of this program"));
        }
    }

    private static string Sample(string name) => Path.Combine(SharedFiles.Root, "tests", "fixtures", "foreign", name);

    private static (RunConfig Config, IReadOnlyList<string> Left) Convert(string name)
    {
        using var folder = new TemporaryFolder();
        var converted = ConfigConverter.Convert(Sample(name));
        return (RunConfigFile.Read(folder.Write("train.yaml", converted.Write()), []), [.. converted.LeftOut.Select(static l => l.Name)]);
    }
}
