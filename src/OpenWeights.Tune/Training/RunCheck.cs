using System.Globalization;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Hub;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// What a run would refuse before its first step, rows apart, each at its place in the config. Of the model its config.json and the
/// weights' headers or index are read, and no weight.
/// </summary>
public static class RunCheck
{
    /// <summary>Everything that does not fit the files and the model that the config names.</summary>
    /// <param name="file">The config.</param>
    public static IReadOnlyList<ConfigProblem> Problems(ConfigFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return [.. Paths(file), .. Output(file), .. Device(file), .. Model(file)];
    }

    /// <summary>Refuses a run that would be refused later.</summary>
    /// <param name="file">The config.</param>
    /// <exception cref="ConfigException">Something is wrong; everything that is wrong is in it.</exception>
    public static void Require(ConfigFile file) => Require(Problems(file));

    /// <summary>Refuses a run whose data sets are not there.</summary>
    /// <param name="file">The config.</param>
    /// <exception cref="ConfigException">A file is missing.</exception>
    public static void RequirePaths(ConfigFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        Require([.. Paths(file)]);
    }

    private static void Require(IReadOnlyList<ConfigProblem> problems)
    {
        if (problems.Count > 0)
        {
            throw new ConfigException(problems);
        }
    }

    private static IEnumerable<ConfigProblem> Paths(ConfigFile file)
    {
        var (config, written) = (file.Config, file.Written);
        foreach (var (list, sources, given) in new[] { ("data.train", config.Data.Train, written.Data.Train), ("data.eval", config.Data.Eval, written.Data.Eval) })
        {
            for (var i = 0; i < sources.Count; i++)
            {
                var key = string.Create(CultureInfo.InvariantCulture, $"{list}.{i}.path");
                if (sources[i].Path.Length > 0 && DataProblem(file, key, sources[i].Path, given[i].Path) is { } problem)
                {
                    yield return problem;
                }
            }
        }

        if (config.Adapter?.Path is { } adapter && AdapterFolder.Find(adapter) is null)
        {
            yield return Path.Exists(adapter)
                ? file.Problem("adapter.path", $"{adapter} is no adapter: it has no {AdapterFolder.ConfigName}, and is no training run or checkpoint with one.", isFile: true)
                : file.NotThere("adapter.path", written.Adapter!.Path!);
        }

        if (!ModelPath.IsOnHub(config.Model.Path) && !Path.Exists(config.Model.Path))
        {
            var problem = file.NotThere("model.path", written.Model.Path);
            yield return HubName.IsName(written.Model.Path) ? problem with { Message = $"{problem.Message} (A model of the Hub can be written hub:{written.Model.Path}.)" } : problem;
        }
    }

    private static ConfigProblem? DataProblem(ConfigFile file, string key, string path, string written)
    {
        try
        {
            _ = DataPaths.Expand(path);
            return null;
        }
        catch (FileNotFoundException)
        {
            return file.NotThere(key, written);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            return file.Problem(key, e.Message, isFile: true);
        }
    }

    private static IEnumerable<ConfigProblem> Output(ConfigFile file)
    {
        for (var at = file.Config.OutputDir; at is { Length: > 0 }; at = Path.GetDirectoryName(at))
        {
            if (File.Exists(at))
            {
                yield return file.Problem("output_dir", $"{at} is a file, so no folder can be made there; give another one.");
            }
        }
    }

    // Torch takes a while to load, and is asked only where a GPU is wanted by name.
    private static IEnumerable<ConfigProblem> Device(ConfigFile file)
    {
        string? problem = null;
        try
        {
            _ = file.Config.Model.Device is "auto" or "cpu" ? null : Devices.Find(file.Config.Model.Device);
        }
        catch (InvalidDataException e)
        {
            problem = e.Message;
        }

        return problem is null ? [] : [file.Problem("model.device", problem)];
    }

    private static List<ConfigProblem> Model(ConfigFile file)
    {
        var problems = new List<ConfigProblem>();
        if (FolderOf(file.Config.Model.Path) is not { } path)
        {
            return problems;
        }

        void Add(string key, Exception e, bool isFile) => problems.Add(file.Problem(key, e.Message, isFile));
        DecoderConfig decoder;
        ModelFolder folder;
        try
        {
            folder = ModelFolder.Open(path);
            decoder = ModelLoader.ReadConfig(folder);
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            Add("model.path", e, isFile: true);
            return problems;
        }

        try
        {
            using var weights = folder.OpenWeights();
            decoder = ModelLoader.Check(folder, weights, out _);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            Add("model.path", e, isFile: true);
        }

        using var nothing = no_grad();
        using var model = new CausalLanguageModel(decoder, new OutlineWeightSource()) { SourceFolder = folder.FolderPath, IsOutline = true };
        problems.AddRange(Trained(file, model));
        return problems;
    }

    // A model of the Hub is looked at where its config is here already.
    private static string? FolderOf(string model)
    {
        if (!ModelPath.IsOnHub(model))
        {
            return Path.Exists(model) ? ModelPath.Resolve(model) : null;
        }

        return ModelPath.Cached(model) is { } folder && ModelFolder.IsModel(folder) ? folder : null;
    }

    private static IEnumerable<ConfigProblem> Trained(ConfigFile file, CausalLanguageModel model)
    {
        var config = file.Config;
        if (config is { Adapter: null, Training.LowPrecision: "stochastic_rounding", Model.Dtype: "float16" })
        {
            return [file.Problem("training.low_precision", "stochastic rounding is for bfloat16, and model.dtype is float16; set it to master_weights.")];
        }

        if (config.Adapter is not { } section)
        {
            return config.Training.FirstTrainedLayer < model.Config.LayerCount ? []
                : [file.Problem("training.first_trained_layer", TrainedModel.NoSuchLayer(config.Training.FirstTrainedLayer, model.Config.LayerCount))];
        }

        if (section.Path is null)
        {
            // A bare name is a list of one, and was written without a place in it.
            var bare = new[] { ("target_modules", section.TargetModules), ("exclude_modules", section.ExcludeModules) }.Where(static t => t.Item2 is { IsList: false }).Select(static t => $"{t.Item1}.0").ToList();
            return AdapterTargets.Problems(model, TrainedModel.Settings(section)).Select(p => file.Problem($"adapter.{(bare.Contains(p.Setting) ? p.Setting[..^2] : p.Setting)}", p.Message));
        }

        if (AdapterFolder.Find(section.Path) is not { } path)
        {
            return [];
        }

        try
        {
            // Of the base only its outline is here; where its files are there too, their values are compared with those that the adapter was made for.
            using var adapter = PeftFolder.Load(model, path, anyBase: section.AnyBase);
            return [];
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            return [file.Problem("adapter.path", e.Message, isFile: true)];
        }
    }
}
