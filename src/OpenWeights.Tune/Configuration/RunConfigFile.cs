using System.Text.RegularExpressions;
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

        if (config.Quantization is not null)
        {
            yield return ("quantization", "this version cannot quantise the base; leave the section out.");
        }

        if (config.Model.Device is not ("auto" or "cpu" or "cuda") && !Regex.IsMatch(config.Model.Device, @"\Acuda:\d+\z"))
        {
            yield return ("model.device", $"'{config.Model.Device}' is not possible; possible are auto, cpu, cuda and cuda:N.");
        }

        if (config.Adapter is not { } adapter)
        {
            yield break;
        }

        if (adapter.UseDora)
        {
            yield return ("adapter.use_dora", "this version has no DoRA; leave it false.");
        }

        if (!adapter.InitLoraWeights)
        {
            yield return ("adapter.init_lora_weights", "this version starts adapters as PEFT's true does; leave it true.");
        }

        if (adapter.ModulesToSave.Count > 0)
        {
            yield return ("adapter.modules_to_save", "this version trains no whole modules beside an adapter; leave it empty.");
        }
    }

    /// <summary>Paths that are read: beside the config first, then from the current folder. The run's folder: from the current folder.</summary>
    private static RunConfig Resolve(RunConfig config, string folder)
    {
        string Input(string path)
        {
            var beside = Path.GetFullPath(path, folder);
            return Path.Exists(beside) ? beside : Path.GetFullPath(path);
        }

        IReadOnlyList<DataSource> Sources(IReadOnlyList<DataSource> sources) => [.. sources.Select(s => s with { Path = Input(s.Path) })];
        return config with
        {
            OutputDir = Path.GetFullPath(config.OutputDir),
            Model = config.Model with { Path = ModelPath.IsOnHub(config.Model.Path) && !Path.Exists(Path.GetFullPath(config.Model.Path, folder)) ? config.Model.Path : Input(config.Model.Path) },
            Adapter = config.Adapter is { Path: { } adapter } ? config.Adapter with { Path = Input(adapter) } : config.Adapter,
            Data = config.Data with { Train = Sources(config.Data.Train), Eval = Sources(config.Data.Eval) },
        };
    }
}
