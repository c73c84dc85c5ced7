using System.Text.RegularExpressions;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Configuration;

/// <summary>Reads train.yaml.</summary>
public static class RunConfigFile
{
    /// <summary>A config from a file and the overrides of a command line, checked whole.</summary>
    /// <param name="path">The file.</param>
    /// <param name="overrides">Settings such as training.max_steps=10.</param>
    /// <exception cref="ConfigException">Something is wrong; everything that is wrong is in it.</exception>
    public static RunConfig Read(string path, IReadOnlyList<string> overrides)
    {
        ArgumentNullException.ThrowIfNull(overrides);
        if (!File.Exists(path))
        {
            throw new ConfigException([new ConfigProblem(path, "", "there is no such file.")]);
        }

        var source = YamlSource.Read(path, File.ReadAllText(path));
        var problems = overrides.Select(source.Override).OfType<ConfigProblem>().ToList();
        var binder = new ConfigBinder(source);
        var config = binder.Bind<RunConfig>();
        problems.AddRange(binder.Problems);
        problems.AddRange(Rules(config).Select(r => new ConfigProblem(path, r.Key, r.Message)));
        if (problems.Count > 0)
        {
            throw new ConfigException(problems);
        }

        return Resolve(config, Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    // What one setting alone cannot tell.
    private static IEnumerable<(string Key, string Message)> Rules(RunConfig config)
    {
        if (config.Training.Betas.Count != 2)
        {
            yield return ("training.betas", "two numbers are wanted, such as [0.9, 0.95].");
        }

        if (config.Data.Train.Count == 0)
        {
            yield return ("data.train", "at least one data set is wanted, such as `train: [ { path: rows.jsonl } ]`.");
        }

        if ((config.Evaluation.EarlyStoppingPatience > 0 || config.Evaluation.KeepBest) && config.Data.Eval.Count == 0 && config.Data.EvalFraction == 0)
        {
            yield return ("evaluation", "early_stopping_patience and keep_best go by the eval loss; give data.eval or data.eval_fraction.");
        }

        if (config.Training is { Offload: "activations", Checkpointing: ActivationCheckpointing.None })
        {
            yield return ("training.offload", "activations are those that checkpointing keeps; set training.activation_checkpointing to block or selective too.");
        }

        foreach (var problem in DataRules.Of(config.Data))
        {
            yield return problem;
        }

        if (config.Quantization is { } quantization)
        {
            if (config.Adapter is null)
            {
                yield return ("quantization", "a quantised base cannot be trained itself; add an adapter section, or leave quantization out.");
            }

            if (!int.IsPow2(quantization.BlockSize))
            {
                yield return ("quantization.block_size", $"{quantization.BlockSize} is no power of two; 64 is usual.");
            }
        }

        if (config.Model.Device is not ("auto" or "cpu" or "cuda") && !Regex.IsMatch(config.Model.Device, @"\Acuda:\d+\z"))
        {
            yield return ("model.device", $"'{config.Model.Device}' is not possible; possible are auto, cpu, cuda and cuda:N.");
        }

        if (config.Adapter is not { } adapter)
        {
            yield break;
        }

        foreach (var problem in AdapterRules(config, adapter))
        {
            yield return problem;
        }
    }

    private static IEnumerable<(string Key, string Message)> AdapterRules(RunConfig config, AdapterSection adapter)
    {
        if (config.Training.Trainable != "all" || config.Training.FirstTrainedLayer > 0)
        {
            yield return ("adapter", "training.trainable and training.first_trained_layer choose among the model's own weights; with an adapter use target_modules, layers_to_transform and bias.");
        }

        if (adapter.UseDora && (adapter.InitLoraWeights == "pissa" || adapter.LoraBias))
        {
            yield return ("adapter.use_dora", "DoRA goes with neither init_lora_weights pissa nor lora_bias; choose one of them.");
        }

        if (adapter.LayersToTransform.Count > 0 && adapter.TargetModules is { IsList: false } pattern && pattern.Values[0] != "all-linear")
        {
            yield return ("adapter.layers_to_transform", "with a pattern in target_modules the pattern chooses the layers; give a list of names, or leave layers_to_transform out.");
        }

        if (adapter.LayersPattern is not null && adapter.LayersToTransform.Count == 0)
        {
            yield return ("adapter.layers_pattern", "it says where layers_to_transform counts, which is empty.");
        }
    }

    /// <summary>Paths that are read: beside the config first, then from the current folder. The run's folder: from the current folder.</summary>
    private static RunConfig Resolve(RunConfig config, string folder)
    {
        string Input(string path)
        {
            if (path.Length == 0)
            {
                return path;
            }

            var beside = Path.GetFullPath(path, folder);
            return Path.Exists(beside) || IsPatternOf(beside) ? beside : Path.GetFullPath(path);
        }

        // A name, unless there is a file.
        string? Template(string? template) => template is null || NamedTemplates.All.ContainsKey(template) ? template
            : File.Exists(Path.GetFullPath(template, folder)) ? Path.GetFullPath(template, folder)
            : File.Exists(template) ? Path.GetFullPath(template)
            : template;

        static bool IsPatternOf(string path)
        {
            while (DataPaths.HasWildcard(path))
            {
                path = Path.GetDirectoryName(path) ?? ".";
                if (!DataPaths.HasWildcard(path))
                {
                    return Directory.Exists(path);
                }
            }

            return false;
        }

        IReadOnlyList<DataSource> Sources(IReadOnlyList<DataSource> sources) => [.. sources.Select(s => s with { Path = Input(s.Path) })];
        return config with
        {
            OutputDir = Path.GetFullPath(config.OutputDir),
            Model = config.Model with { ChatTemplate = Template(config.Model.ChatTemplate), Path = ModelPath.IsOnHub(config.Model.Path) && !Path.Exists(Path.GetFullPath(config.Model.Path, folder)) ? config.Model.Path : Input(config.Model.Path) },
            Adapter = config.Adapter is { Path: { } adapter } ? config.Adapter with { Path = Input(adapter) } : config.Adapter,
            Data = config.Data with
            {
                Train = Sources(config.Data.Train),
                Eval = Sources(config.Data.Eval),
                CacheDir = config.Data.CacheDir is { } cache ? Path.GetFullPath(cache) : null,
            },
        };
    }
}
