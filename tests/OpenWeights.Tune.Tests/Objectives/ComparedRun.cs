using System.Text.Json.Nodes;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Objectives;

/// <summary>Short runs of objectives that compare the policy with another model, on a tiny model and rows of random tokens.</summary>
internal sealed class ComparedRun : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    internal ComparedRun()
    {
        _ = TinyModel.Write(_folder);
        Teacher = TinyModel.Write(_folder, "teacher", seed: 8);
        _ = TinyModel.WriteRows(_folder, 8);
        var random = new Random(5);
        string Ids(int least, int most) => $"[{string.Join(',', Enumerable.Range(0, random.Next(least, most)).Select(_ => random.Next(TinyModel.Vocabulary)))}]";
        _ = _folder.Write("pairs.jsonl", string.Concat(Enumerable.Range(0, 8).Select(_ => $$"""{"prompt_ids":{{Ids(2, 6)}},"chosen_ids":{{Ids(3, 9)}},"rejected_ids":{{Ids(3, 9)}}}""" + "\n")));
    }

    /// <summary>Folder of another model with the same vocabulary.</summary>
    internal string Teacher { get; }

    public void Dispose() => _folder.Dispose();

    internal string At(params string[] parts) => _folder.At(parts);

    internal string Write(string name, string text) => _folder.Write(name, text);

    /// <summary>The config of a run.</summary>
    /// <param name="name">Name of its folder.</param>
    /// <param name="objective">The objective section.</param>
    /// <param name="adapter">The adapter section; empty for full fine-tuning.</param>
    /// <param name="rows">File of the rows.</param>
    /// <param name="overrides">Further settings.</param>
    internal RunConfig Config(string name, string objective, string adapter = "{ r: 4, lora_alpha: 8 }", string rows = "pairs.jsonl", params string[] overrides) => RunConfigFile.Read(_folder.Write($"{name}.yaml", $$"""
        output_dir: '{{_folder.At(name)}}'
        model: { path: '{{_folder.At("model")}}', dtype: float32, device: '{{TestDevice.Name}}' }
        {{(adapter.Length > 0 ? $"adapter: {adapter}" : "")}}
        data: { train: {{rows}}, packing: false, cache_dir: '{{_folder.At("cache")}}' }
        objective: { {{objective}} }
        training: { max_steps: 6, micro_batch_size: 2, learning_rate: 5.0e-3, warmup_steps: 0 }
        checkpoint: { every_steps: 3, keep: 3 }
        evaluation: { generate_rows: 0 }
        """), overrides);

    /// <summary>Runs a config.</summary>
    /// <param name="config">The config.</param>
    /// <param name="stopAt">The step to stop at; 0 for none.</param>
    /// <param name="resume">Whether to go on.</param>
    internal static SilentListener Run(RunConfig config, long stopAt = 0, bool resume = false)
    {
        using var stop = new CancellationTokenSource();
        var listener = new SilentListener { OnStep = s => StopAt(s, stopAt, stop) };
        using var run = TrainingRun.Prepare(config, listener, new RunOptions(Resume: resume, IgnoreMemory: true));
        _ = run.Run(overwrite: false, "test", stop.Token);
        return listener;
    }

    /// <summary>Runs a config at once, and stopped in the middle, and returns both lists of metrics, without those that the clock decides, and results.</summary>
    /// <param name="objective">The objective section.</param>
    /// <param name="adapter">The adapter section; empty for full fine-tuning.</param>
    /// <param name="rows">File of the rows.</param>
    internal ((IReadOnlyList<string> Metrics, byte[] Result) Straight, (IReadOnlyList<string> Metrics, byte[] Result) Stopped) Both(string objective, string adapter = "{ r: 4, lora_alpha: 8 }", string rows = "pairs.jsonl")
    {
        var (straight, stopped) = (Config("straight", objective, adapter, rows), Config("stopped", objective, adapter, rows));
        _ = Run(straight);
        _ = Run(stopped, stopAt: 4);
        _ = Run(stopped, resume: true);
        var file = adapter.Length > 0 ? Path.Combine("adapter", "adapter_model.safetensors") : Path.Combine("model", "model.safetensors");
        return ((Numbers("straight"), File.ReadAllBytes(At("straight", file))), (Numbers("stopped"), File.ReadAllBytes(At("stopped", file))));
    }

    /// <summary>The lines of a run's metrics.jsonl without what the clock and the machine decide.</summary>
    internal IReadOnlyList<string> Numbers(string name) =>
    [
        .. File.ReadLines(At(name, "metrics.jsonl")).Select(static line =>
        {
            var json = JsonNode.Parse(line)!.AsObject();
            foreach (var key in new[] { "seconds", "tokens_per_second", "peak_memory_bytes" })
            {
                _ = json.Remove(key);
            }

            return json.ToJsonString();
        }),
    ];

    private static void StopAt(StepMetrics step, long at, CancellationTokenSource stop)
    {
        if (step.Step == at)
        {
            stop.Cancel();
        }
    }
}
