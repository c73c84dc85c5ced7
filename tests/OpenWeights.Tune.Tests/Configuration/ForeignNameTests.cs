using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration.Foreign;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Schedules;

namespace OpenWeights.Tune.Tests.Configuration;

/// <summary>Names and values that people bring from other programs.</summary>
public sealed class ForeignNameTests
{
    private const string Longest = "a message that nobody reads to its end is longer than this";

    [TestCase("training: { batch_size: 4 }", "training.batch_size: here it is `micro_batch_size: 4`.")]
    [TestCase("training: { per_device_train_batch_size: 4 }", "`micro_batch_size: 4`")]
    [TestCase("lr: 1.0e-4", "lr: here it is training.learning_rate; write `learning_rate: 1.0e-4` in the section training.")]
    [TestCase("training: { lr: 1e-4 }", "`learning_rate: 1e-4`")]
    [TestCase("adapter: { rank: 8 }", "adapter.rank: here it is `r: 8`.")]
    [TestCase("adapter: { alpha: 8 }", "`lora_alpha: 8`")]
    [TestCase("training: { num_train_epochs: 3 }", "`epochs: 3`")]
    [TestCase("max_seq_length: 512", "data.max_length")]
    [TestCase("data: { train: rows.jsonl, cutoff_len: 512 }", "`max_length: 512`")]
    [TestCase("training: { max_length: 512 }", "data.max_length; write `max_length: 512` in the section data")]
    [TestCase("training: { optim: paged_adamw_8bit }", "`optimizer: paged_adamw_8bit`")]
    [TestCase("training: { optim: adamw_8bit }", "`optimizer: adamw_8bit`")]
    [TestCase("training: { optim: adamw_bnb_8bit }", "`optimizer: adamw_8bit`")]
    [TestCase("training: { optim: muon }", "`optimizer: muon`")]
    [TestCase("training: { optim: galore_adamw_layerwise }", "`optimizer: galore_adamw`")]
    [TestCase("training: { optim: schedule_free_adamw }", "`optimizer: schedule_free_adamw`")]
    [TestCase("training: { optim: grokadamw }", "'grokadamw' has no counterpart here: docs/optimizers.md")]
    [TestCase("training: { optimizer: paged_adamw_32bit }", "write paged_adamw.")]
    [TestCase("training: { optim_args: 'rank=64' }", "write the optimizer's own settings in its section, such as training.galore: { rank: 128 }")]
    [TestCase("training: { use_galore: true }", "`optimizer: galore_adamw`")]
    [TestCase("training: { galore_rank: 64 }", "training.galore.rank; write `rank: 64` in the section training.galore")]
    [TestCase("training: { galore_target: 'attn,mlp' }", "`optim_target_modules: [attn, mlp]`")]
    [TestCase("training: { lr_scheduler_type: cosine_with_restarts }", "`lr_scheduler: cosine_with_restarts`")]
    [TestCase("training: { lr_scheduler_kwargs: { num_cycles: 2 } }", "lr_num_cycles (waves), lr_cycles (restarts)")]
    [TestCase("training: { ema_decay: 0.99 }", "training.ema.decay; write `decay: 0.99` in the section training.ema")]
    [TestCase("training: { embedding_lr: 1e-5 }", "training.rates: { embed: 0.1 }")]
    [TestCase("training: { muon: { lr: 1 } }", "training.muon.lr: here it is training.learning_rate")]
    [TestCase("adapter: { type: xlora }", "'xlora' is not a valid value; this kind of PEFT's adapters is not supported")]
    [TestCase("adapter: { type: OSF }", "'OSF' is not a valid value; this kind of PEFT's adapters is not supported")]
    [TestCase("training: { bf16: true }", "model.dtype; write `dtype: bfloat16` in the section model")]
    [TestCase("training: { lr_scheduler_type: constant_with_warmup }", "`lr_scheduler: constant`")]
    [TestCase("training: { gradient_checkpointing: true }", "`activation_checkpointing: block`")]
    [TestCase("training: { num_warmup_steps: 0.1 }", "`warmup_ratio: 0.1`")]
    [TestCase("training: { iters: 100 }", "`max_steps: 100`")]
    [TestCase("load_in_4bit: true", "quantization.type; write `type: nf4`")]
    [TestCase("adapter: { lora_target: all }", "`target_modules: all-linear`")]
    [TestCase("adapter: { lora_target: 'q_proj,v_proj' }", "`target_modules: [q_proj, v_proj]`")]
    [TestCase("adapter: { scale: 20 }", "set lora_alpha to scale x r")]
    [TestCase("training: { adam_beta2: 0.95 }", "the second number of training.betas")]
    [TestCase("training: { logging_steps: 10 }", "every step is written")]
    [TestCase("training: { early_stopping_patience: 3 }", "it is evaluation.early_stopping_patience, in the section evaluation")]
    [TestCase("data: { separator: \" \" }", "it is a setting of a data set, such as `train: [ { path: rows.jsonl, separator: \" \" } ]`")]
    [TestCase("data: { delimiter: tab }", "it is a setting of a data set, such as `train: [ { path: rows.jsonl, delimiter: tab } ]`")]
    [TestCase("data: rows.jsonl", "a section with settings is expected here, such as `{ train: rows.jsonl }`.")]
    [TestCase("learning_rate: 1.0e-4", "it is training.learning_rate")]
    [TestCase("adapter: { type: dora }", "adapter.use_dora: true")]
    [TestCase("adapter: { type: qlora }", "quantization: { type: nf4 }")]
    [TestCase("data: { train: [ { path: rows.jsonl, format: alpaca } ] }", "write instruction.")]
    [TestCase("data: { train: [ { path: rows.jsonl, format: sharegpt } ] }", "write chat.")]
    [TestCase("training: { optimizer: adamw_torch }", "write adamw.")]
    public void Another_programs_word_is_answered_with_ours(string settings, string told)
    {
        var problems = Problems(settings);
        Assert.That(problems, Has.Some.Contains(told));
        Assert.That(problems, Has.All.Length.LessThan(4 * Longest.Length), "no wall of keys");
    }

    [Test]
    public void A_key_that_nobody_knows_gets_a_short_answer()
    {
        foreach (var settings in new[] { "training: { zzz: 1 }", "data: { train: rows.jsonl, qqqq: 1 }", "adapter: { wwww: 1 }", "zzzz: 1" })
        {
            Assert.That(Problems(settings), Has.Some.Contains("unknown setting").And.All.Length.LessThan(4 * Longest.Length));
        }
    }

    [Test]
    public void Every_setting_that_the_tables_name_is_there()
    {
        var named = ForeignNames.All.Select(static n => n.Ours).OfType<string>()
            .Concat(ForeignTool.All.SelectMany(static t => t.Keys.Values.OfType<string>().Concat(t.Defaults.Keys).Concat(t.AdapterDefaults.Keys)))
            .Distinct();
        Assert.That(named.Where(static n => ForeignParts.Setting(n) is null), Is.Empty);
    }

    [Test]
    public void Every_name_that_is_known_stands_in_the_docs()
    {
        var docs = File.ReadAllText(Path.Combine(SharedFiles.Root, "docs", "configuration.md"));
        Assert.That(ForeignNames.All.Where(n => !docs.Contains($"`{n.Name}`", StringComparison.Ordinal)).Select(static n => n.Name), Is.Empty);
    }

    [Test]
    public void The_names_that_the_programs_own_samples_use_are_known()
    {
        foreach (var file in Directory.GetFiles(Path.Combine(SharedFiles.Root, "tests", "fixtures", "foreign")))
        {
            var unknown = ConfigConverter.Convert(file).LeftOut.Where(static l => l.Why.Contains("has no such setting", StringComparison.Ordinal)).Select(static l => l.Name);
            Assert.That(unknown, Is.SubsetOf(new[] { "loss_watchdog_threshold", "loss_watchdog_patience" }), file);
        }
    }

    [Test]
    public void The_share_of_warm_up_is_a_setting()
    {
        using var folder = new TemporaryFolder();
        var config = RunConfigFile.Read(folder.Write("train.yaml", Yaml("training: { warmup_ratio: 0.1 }")), []);
        var rates = RunRates.Of(config.Training, totalSteps: 45);
        Assert.That(rates.WarmupSteps, Is.EqualTo(5), "as transformers rounds it: up");
    }

    private static List<string> Problems(string settings)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("train.yaml", Yaml(settings));
        return [.. Assert.Throws<ConfigException>(() => RunConfigFile.Read(path, []))!.Problems.Select(static p => $"{p.Key}: {p.Message}")];
    }

    private static string Yaml(string settings) =>
        $"output_dir: x\nmodel: {{ path: base }}\n{(settings.StartsWith("data", StringComparison.Ordinal) ? "" : "data: { train: rows.jsonl }\n")}{settings}\n";
}
