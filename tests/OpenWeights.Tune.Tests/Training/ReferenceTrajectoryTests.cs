using OpenWeights.Testing;
using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Twenty steps with accumulation, warm-up, cosine and clipping, against transformers and PEFT.</summary>
[Category(TestDevice.Parity)]
public sealed class ReferenceTrajectoryTests
{
    private static readonly string[] s_onEveryDevice = ["train_full", "train_dora"];

    private static IEnumerable<TestCaseData> Cases =>
        Golden.Present("train_full", "train_full_decay_groups", "train_lora", "train_rslora", "train_dora", "train_full_hf_trainer", "train_lora_hf_trainer")
            .Select(static name => s_onEveryDevice.Contains(name) ? new TestCaseData(name) : new TestCaseData(name).SetCategory(TestDevice.CpuAlone));

    [TestCaseSource(nameof(Cases))]
    public void Losses_rates_norms_and_final_weights_are_the_references(string name)
    {
        using var golden = new Golden(name);
        using var folder = new TemporaryFolder();
        var listener = new SilentListener();
        var lora = !name.StartsWith("train_full", StringComparison.Ordinal);
        string result;
        using (var run = TrainingRun.Prepare(Config(golden, folder, lora), listener))
        {
            result = run.Run(overwrite: false, "test", CancellationToken.None)!;
        }

        foreach (var (expected, actual) in golden.Json["log"]!.AsArray().Zip(listener.Steps))
        {
            var loss = expected!["loss"]!.GetValue<double>();
            var norm = expected["grad_norm"]!.GetValue<double>();
            Assert.That(actual.Loss, Is.EqualTo(loss).Within(1e-5 * loss * TestDevice.Slack), $"loss of step {actual.Step}");
            Assert.That(actual.GradNorm, Is.EqualTo(norm).Within(1e-5 * norm * TestDevice.Slack), $"norm of step {actual.Step}");
            if (expected["lr"] is { } rate)
            {
                Assert.That(actual.LearningRate, Is.EqualTo(rate.GetValue<double>()).Within(1e-12), $"rate of step {actual.Step}");
            }

            Assert.That(actual.TargetTokens, Is.EqualTo(expected["num_target_tokens"]!.GetValue<long>()));
        }

        Assert.That(listener.Steps, Has.Count.EqualTo(20));
        var worst = 0.0;
        using var final = SafetensorsFile.Open(Path.Combine(golden.Folder, "final.safetensors"));
        using var weights = lora ? (IDisposable)AdapterFolder.Open(result).OpenWeights() : ModelFolder.Open(result).OpenWeights();
        foreach (var entry in ((ITensorSource)weights).Tensors)
        {
            using var scope = NewDisposeScope();
            var expected = TensorFiles.Read(final, FinalName(final, entry.Name));
            var difference = Golden.LargestDifference(TensorFiles.Read((ITensorSource)weights, entry.Name), expected);
            worst = Math.Max(worst, difference);
            Assert.That(difference, Is.LessThan(1e-5 * TestDevice.Slack), entry.Name);
        }

        TestContext.Out.WriteLine($"{name}: largest difference of a final weight {worst:0.0e0}");
    }

    // The reference keeps PEFT's live names, which have the adapter's name in them.
    private static string FinalName(SafetensorsFile final, string name) =>
        final.TryGetTensor(name, out _) ? name : final.TryGetTensor(name + ".default.weight", out _) ? name + ".default.weight"
        : name.Replace(".weight", ".default.weight", StringComparison.Ordinal);

    private static RunConfig Config(Golden golden, TemporaryFolder folder, bool lora)
    {
        var hyper = golden.Json["hyper"]!;
        double Number(string key) => hyper[key]!.GetValue<double>();
        return new RunConfig
        {
            OutputDir = folder.At("run"),
            Model = new ModelSection { Path = Path.Combine(golden.Folder, golden.Json["base"]!.ToString()), Dtype = "float32", Device = TestDevice.Name },
            Adapter = lora ? new AdapterSection { Path = InitialAdapter(golden, folder) } : null,
            Data = new DataSection { Train = [new DataSource { Path = Rows(golden, folder) }], Packing = false, Shuffle = false },
            Training = new TrainingSection
            {
                MaxSteps = 20,
                MicroBatchSize = 2,
                GradientAccumulationSteps = (int)Number("gradient_accumulation"),
                LearningRate = Number("lr"),
                WarmupSteps = (long)Number("warmup_steps"),
                WeightDecay = Number("weight_decay"),
                Betas = [Number("beta1"), Number("beta2")],
                MaxGradNorm = Number("grad_clip"),
                DecayNormsAndBiases = golden.Json["weight_decay_on"]?.ToString().StartsWith("every", StringComparison.Ordinal) ?? false,
            },
        };
    }

    private static string Rows(Golden golden, TemporaryFolder folder)
    {
        using var batches = SafetensorsFile.Open(Path.Combine(golden.Folder, "batches.safetensors"));
        using var scope = NewDisposeScope();
        long[] Values(string name) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(TensorFiles.Read(batches, name).bytes).ToArray();
        var (ids, labels, mask) = (Values("input_ids"), Values("labels"), Values("attention_mask"));
        var tokens = (int)batches.GetTensor("input_ids").Shape[^1];
        var lines = Enumerable.Range(0, ids.Length / tokens).Select(row =>
        {
            var real = Enumerable.Range(row * tokens, tokens).Where(i => mask[i] != 0).ToList();
            return $$"""{"input_ids": [{{string.Join(",", real.Select(i => ids[i]))}}], "labels": [{{string.Join(",", real.Select(i => labels[i]))}}]}""";
        });
        return folder.Write("rows.jsonl", string.Join('\n', lines));
    }

    private static string InitialAdapter(Golden golden, TemporaryFolder folder)
    {
        // The reference's own Trainer starts where the hand-written loop does.
        var start = Path.Combine(golden.Folder, golden.Json["compared_with"]?.ToString() ?? ".");
        var trained = AdapterFolder.Open(Path.Combine(start, "adapter"));
        using var initial = SafetensorsFile.Open(Path.Combine(start, "initial.safetensors"));
        using var names = trained.OpenWeights();
        AdapterFolder.Write(folder.At("initial"), trained.Config, [.. names.Tensors.Select(t => TensorToWrite.FromSource(initial, FinalName(initial, t.Name), t.Name))]);
        return folder.At("initial");
    }
}
