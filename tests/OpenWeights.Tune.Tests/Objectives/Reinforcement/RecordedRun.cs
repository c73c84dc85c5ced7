using System.Text.Json.Nodes;
using OpenWeights.Testing;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Training;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Objectives.Reinforcement;

/// <summary>A golden of sampled answers as a run: its rows in a file, its settings in YAML.</summary>
internal sealed class RecordedRun : IDisposable
{
    private readonly ITrainedModel _trained;
    private readonly IReferencePolicy? _reference;
    private readonly RunDraft _draft;
    private readonly IObjective _objective;

    /// <summary>Reads the run.</summary>
    /// <param name="folder">Receives its files.</param>
    /// <param name="golden">The golden.</param>
    /// <param name="microBatch">Answers per micro-batch; the golden's unless given.</param>
    /// <param name="reorder">Changes the order of the lines.</param>
    internal RecordedRun(TemporaryFolder folder, Golden golden, int? microBatch = null, Func<List<string>, List<string>>? reorder = null)
    {
        var lines = Lines(golden);
        var accumulation = golden.Json["hyper"]!["gradient_accumulation_steps"]?.GetValue<int>() ?? 1;
        var rows = microBatch ?? lines.Count / accumulation;
        _ = folder.Write("samples.jsonl", string.Join('\n', reorder is null ? lines : reorder(lines)) + "\n");
        var config = Config(folder, golden, "samples: samples.jsonl, reference: base", $"max_steps: 1, micro_batch_size: {rows}, gradient_accumulation_steps: {lines.Count / rows}");
        _draft = RunDraft.Read(config, new SilentListener(), new RunOptions { IgnoreMemory = true });
        _trained = _draft.LoadModel(new SilentListener());
        var kind = ObjectiveKinds.Of(config.Objective);
        _reference = kind.ComparesWithReference(config.Objective) ? ReferencePolicies.Create(config, _draft.ModelPath, _trained) : null;
        _objective = kind.Create(_draft.ObjectiveContext with { Reference = _reference });
    }

    /// <summary>The adapter, with the gradients of the step.</summary>
    internal PeftAdapter Adapter => ((AdapterTraining)_trained).Adapter;

    /// <summary>Norm of the gradient.</summary>
    internal double Norm => Math.Sqrt(Adapter.Parameters.Sum(static p => Math.Pow(p.Parameter.grad!.norm().ToDouble(), 2)));

    /// <summary>Loss, gradients and metrics of the first step.</summary>
    internal (double Loss, IReadOnlyDictionary<string, double> Metrics, IReadOnlyList<TokenRow> Rows) Step()
    {
        var batches = _objective.Rows(_trained.Model, 0, _draft.Rows);
        long units;
        using (no_grad())
        {
            units = _objective.Begin(_trained.Model, batches);
        }

        var loss = 0.0;
        foreach (var rows in batches)
        {
            using var scope = NewDisposeScope();
            if (_objective.LossSum(_trained.Model, rows) is { } sum)
            {
                sum.div(units).backward();
                loss += sum.ToDouble() / units;
            }
        }

        return (loss, _objective.End(), [.. batches.SelectMany(static b => b)]);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        (_objective as IDisposable)?.Dispose();
        _reference?.Dispose();
        _trained.Dispose();
    }

    /// <summary>The config of a golden's run.</summary>
    internal static RunConfig Config(TemporaryFolder folder, Golden golden, string objective, string training)
    {
        var @base = Path.GetFullPath(Path.Combine(golden.Folder, ".."));
        var hyper = new JsonObject { ["type"] = golden.Json["kind"]!.GetValue<string>() is "rloo" ? "rloo" : "grpo" };
        foreach (var (key, value) in golden.Json["hyper"]!.AsObject().Where(static h => h.Value is not null && h.Key != "gradient_accumulation_steps"))
        {
            hyper[key] = value!.DeepClone();
        }

        // Log-probabilities in the file are those of the policy that sampled, so that one pass has the golden's ratios.
        hyper["num_iterations"] = golden.Json["kind"]!.GetValue<string>() == "trajectory" ? hyper["num_iterations"]?.DeepClone() : 1;
        var settings = hyper.ToJsonString();
        var path = folder.Write("train.yaml", $$"""
            output_dir: '{{folder.Root}}/out'
            model: { path: '{{@base}}/model', dtype: float32, device: '{{TestDevice.Name}}' }
            adapter: { path: '{{@base}}/policy_adapter', any_base: true }
            data: { shuffle: false, max_length: 64 }
            objective: {{settings[..^1]}}, {{objective}} }
            training: { {{training}}, learning_rate: 1.0e-3, lr_scheduler: constant, warmup_steps: 0, betas: [0.9, 0.999], eps: 1.0e-8, weight_decay: 0.01, max_grad_norm: 1.0 }
            evaluation: { generate_rows: 0 }
            """);
        return RunConfigFile.Read(path, []);
    }

    /// <summary>A line for each answer, with the old policy's log-probabilities where the golden has them.</summary>
    internal static List<string> Lines(Golden golden)
    {
        var examples = golden.Json["examples"]!.AsArray();
        var size = golden.Json["hyper"]!["num_generations"]!.GetValue<int>();
        var hasOld = golden.Tensors.TryGetTensor("old_logps", out _) && golden.Json["hyper"]!["num_iterations"]!.GetValue<int>() > 1;
        using var scope = NewDisposeScope();
        var old = hasOld ? golden.Tensor("old_logps") : null;
        return
        [
            .. examples.Select((example, i) =>
            {
                var completion = example!["completion"]!.AsArray();
                var row = new JsonObject
                {
                    ["prompt_ids"] = example["prompt"]!.DeepClone(),
                    ["completion_ids"] = completion.DeepClone(),
                    ["group"] = i / size,
                    ["rewards"] = new JsonObject([.. golden.Json["rewards"]!.AsObject().Select(r => KeyValuePair.Create(r.Key, r.Value![i]?.DeepClone()))]),
                };
                if (old is not null)
                {
                    row["logprobs"] = new JsonArray([.. Enumerable.Range(0, completion.Count).Select(t => (JsonNode)old[i][t].ToSingle())]);
                }

                return row.ToJsonString();
            }),
        ];
    }
}
