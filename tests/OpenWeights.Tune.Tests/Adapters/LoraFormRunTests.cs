using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>LoRA's starts and forms from YAML: trained, stopped and gone on with, read again, merged, and trained further.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class LoraFormRunTests
{
    private static readonly string[] s_sections =
    [
        "{ r: 2, init_lora_weights: orthogonal }", "{ r: 2, init_lora_weights: mica }", "{ r: 2, init_lora_weights: olora }", "{ r: 2, init_lora_weights: pissa_niter_4, use_rslora: true }",
        "{ r: 2, init_lora_weights: eva, init_samples: 8, eva_config: { rho: 1.5, tau: 0.5 } }", "{ r: 2, init_lora_weights: corda, init_samples: 5, corda_config: { corda_method: kpm } }",
        "{ r: 2, init_lora_weights: lora_ga, lora_ga_config: { direction: ArBr, scale: weight_svd } }", "{ r: 2, lora_alpha: 2, init_lora_weights: loftq, loftq_config: { loftq_iter: 2 } }",
        "{ r: 2, kasa_config: {} }", "{ r: 2, target_modules: [q_proj, o_proj], use_bdlora: { target_modules_bd_a: [o_proj], target_modules_bd_b: [q_proj], nblocks: 2 } }",
        "{ r: 2, trainable_token_indices: [3, 17, 40] }", "{ r: 2, trainable_token_indices: { embed_tokens: [3, 17], lm_head: [3, 40] } }", "{ type: trainable_tokens, token_indices: [3, 17, 40] }",
        "{ r: 2, alora_invocation_tokens: [17] }", "{ r: 2, layer_replication: [[0, 2], [1, 2], [0, 1]] }",
        "{ r: 2, use_dora: true, target_modules: [embed_tokens, q_proj] }", "{ r: 2, vocab_size: 99, trainable_token_indices: [96, 97, 98] }", "{ r: 2, vocab_size: 98, modules_to_save: [embed_tokens, lm_head] }",
    ];

    [TestCaseSource(nameof(s_sections))]
    public void A_run_trains_it_goes_on_after_a_stop_and_its_adapter_is_read_merged_and_trained_further(string section)
    {
        using var work = new TemporaryFolder();
        TinyModel.Write(work);
        TinyModel.WriteRows(work, 12);
        var straight = Run(work, "straight", section)!;
        using (var stop = new CancellationTokenSource())
        {
            Assert.That(Run(work, "stopped", section, new SilentListener { OnStep = s => Stop(s, stop) }, resume: false, stop.Token), Is.Null);
        }

        var stopped = Run(work, "stopped", section, resume: true)!;
        Assert.That(File.ReadAllBytes(Path.Combine(stopped, "adapter_model.safetensors")), Is.EqualTo(File.ReadAllBytes(Path.Combine(straight, "adapter_model.safetensors"))), "as never stopped");
        IsReadAndMerged(work, straight);

        var further = Run(work, "further", $"{{ path: {JsonValue.Create(straight).ToJsonString()} }}")!;
        Assert.That(File.ReadAllBytes(Path.Combine(further, "adapter_model.safetensors")), Is.Not.EqualTo(File.ReadAllBytes(Path.Combine(straight, "adapter_model.safetensors"))));
    }

    [TestCase("{ r: 2, init_lora_weights: eva }", "eva", 12, 0)]
    [TestCase("{ r: 2, init_lora_weights: lora_ga, init_samples: 4 }", "lora_ga", 4, 14)]
    [TestCase("{ r: 2, init_lora_weights: pissa }", "pissa", 0, 14)]
    [TestCase("{ r: 2, kasa_config: {} }", "kasa_config", 0, 14)]
    public void The_plan_says_what_a_start_costs(string section, string name, int rows, int decompositions)
    {
        using var work = new TemporaryFolder();
        TinyModel.Write(work);
        TinyModel.WriteRows(work, 12);
        var start = RunDraft.Read(Config(work, "run", section), new SilentListener()).Plan.Start!;
        Assert.That((start.Name, start.Rows, start.Decompositions), Is.EqualTo((name, rows, decompositions)));
        Assert.That(start.Text, Does.StartWith(name).And.Contain("MiB"));
    }

    [TestCase("{ init_lora_weights: pisa }", "adapter.init_lora_weights", "pissa")]
    [TestCase("{ use_dora: true, init_lora_weights: olora }", "adapter.use_dora", "olora")]
    [TestCase("{ layer_replication: [[2, 1]] }", "adapter.layer_replication.0", "[first layer, end]")]
    [TestCase("{ r: 3, init_lora_weights: orthogonal }", "adapter.init_lora_weights", "even")]
    [TestCase("{ r: 33, init_lora_weights: corda }", "adapter.init_lora_weights", "singular values")]
    [TestCase("{ trainable_token_indices: [96] }", "adapter.trainable_token_indices", "96")]
    [TestCase("{ trainable_token_indices: [5, 5] }", "adapter.trainable_token_indices", "twice")]
    [TestCase("{ use_bdlora: { target_modules_bd_a: [o_proj], nblocks: 2 } }", "adapter.use_bdlora", "match_strict")]
    [TestCase("{ kasa_config: {}, use_dora: true }", "adapter.use_dora", "kasa_config")]
    [TestCase("{ alora_invocation_tokens: [5], bias: all }", "adapter.alora_invocation_tokens", "bias")]
    [TestCase("{ layer_replication: [[0, 9]] }", "adapter.layer_replication", "no layer")]
    [TestCase("{ ensure_weight_tying: true, trainable_token_indices: { embed_tokens: [5], lm_head: [6] } }", "adapter.ensure_weight_tying", "different tokens")]
    public void What_cannot_be_trained_is_said_of_the_setting(string section, string setting, string word)
    {
        using var work = new TemporaryFolder();
        TinyModel.Write(work);
        TinyModel.WriteRows(work, 12);
        var file = RunConfigFile.Inspect(Yaml(work, "run", section), []);
        Assert.That(file.Problems.Concat(RunCheck.Problems(file)).Select(static p => $"{p.Key}: {p.Message}"), Has.Some.Matches<string>(p => p!.Contains(setting, StringComparison.Ordinal) && p.Contains(word, StringComparison.Ordinal)));
    }

    private static void IsReadAndMerged(TemporaryFolder work, string folder)
    {
        using var loaded = ModelLoader.Load(work.At("model"), float32, CPU);
        using var adapter = PeftFolder.Load(loaded.Model, folder);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var input = ModelInput.Rows(tensor(new long[] { 1, 17, 3, 40, 9, 30 }, [1, 6]));
        var logits = loaded.Model.Logits(loaded.Model.call(input));
        if (adapter.Unmergeable is { } reason)
        {
            Assert.That(() => MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue), Throws.TypeOf<InvalidDataException>().With.Message.Contains(reason));
            return;
        }

        _ = MergedExport.Write(loaded, adapter, work.At("merged"), null, long.MaxValue);
        using var merged = ModelLoader.Load(work.At("merged"), float32, CPU);
        Assert.That(Golden.LargestDifference(merged.Model.Logits(merged.Model.call(input)), logits), Is.LessThan(1e-4));
        adapter.Enabled = false;
        var plain = loaded.Model.Logits(loaded.Model.call(input));
        Assert.That(Golden.LargestDifference(plain, logits.narrow(2, 0, plain.size(2))), Is.GreaterThan(1e-3), "it was trained");
    }

    private static void Stop(StepMetrics metrics, CancellationTokenSource stop)
    {
        if (metrics.Step == 2)
        {
            stop.Cancel();
        }
    }

    private static string? Run(TemporaryFolder work, string name, string section, SilentListener? listener = null, bool resume = false, CancellationToken stop = default)
    {
        using var run = TrainingRun.Prepare(Config(work, name, section), listener ?? new SilentListener(), new RunOptions { Resume = resume });
        return run.Run(overwrite: false, "test", stop);
    }

    private static RunConfig Config(TemporaryFolder work, string name, string section) => RunConfigFile.Read(Yaml(work, name, section), []);

    private static string Yaml(TemporaryFolder work, string name, string section) => work.Write($"{name}.yaml", $$"""
        model: { path: model, device: cpu }
        adapter: {{section}}
        data: { train: [rows.jsonl], packing: false }
        training: { max_steps: 5, learning_rate: 0.02, warmup_steps: 0, micro_batch_size: 2 }
        output_dir: {{JsonValue.Create(work.At(name)).ToJsonString()}}
        seed: 4
        """);
}
