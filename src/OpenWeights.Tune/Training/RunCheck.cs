using System.Globalization;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Hub;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>
/// Checks everything that would stop a run before its first step, except the rows, and reports each problem at its place in the config. Of
/// the model only config.json and the headers or index of the weight files are read.
/// </summary>
internal static class RunCheck
{
    /// <summary>
    /// All problems: invalid settings, and settings that do not match the files and the model that the config names.
    /// </summary>
    /// <param name="file">The config.</param>
    public static IReadOnlyList<ConfigProblem> Problems(ConfigFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return [.. file.Problems, .. Paths(file).Concat(Output(file)).Concat(Device(file)).Concat(Model(file)).Where(p => !file.IsWrong(p.Key))];
    }

    /// <summary>Throws if the run would be refused later.</summary>
    /// <param name="file">The config.</param>
    /// <exception cref="ConfigException">The run cannot be started; the exception lists all problems.</exception>
    public static void Require(ConfigFile file) => Require(Problems(file));

    /// <summary>Throws if settings are invalid or files are missing.</summary>
    /// <param name="file">The config.</param>
    /// <exception cref="ConfigException">There are problems; the exception lists all of them.</exception>
    public static void RequirePaths(ConfigFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        Require([.. file.Problems, .. Paths(file).Where(p => !file.IsWrong(p.Key))]);
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
                ? file.Problem("adapter.path", $"{adapter} is not an adapter: it contains no {AdapterFolder.ConfigName}, and is not a run folder or checkpoint with one.", isFile: true)
                : file.NotThere("adapter.path", written.Adapter!.Path!);
        }

        foreach (var (key, model, given) in new[] { ("objective.teacher", config.Objective.Teacher, written.Objective.Teacher), ("objective.reference", config.Objective.Reference, written.Objective.Reference) })
        {
            if (model is not (null or "" or "start" or "base") && !ModelPath.IsOnHub(model) && !Path.Exists(model))
            {
                yield return file.NotThere(key, given!);
            }
        }

        foreach (var problem in OwnClasses.Problems(file))
        {
            yield return problem;
        }

        foreach (var problem in RewardFiles(file))
        {
            yield return problem;
        }

        if (config.Model.Path.Length > 0 && !ModelPath.IsOnHub(config.Model.Path) && !Path.Exists(config.Model.Path))
        {
            var problem = file.NotThere("model.path", written.Model.Path);
            yield return HubName.IsName(written.Model.Path) ? problem with { Message = $"{problem.Message} (To name a model on the Hub, write hub:{written.Model.Path}.)" } : problem;
        }
    }

    private static IEnumerable<ConfigProblem> RewardFiles(ConfigFile file)
    {
        var (rewards, given) = (file.Config.Objective.Rewards, file.Written.Objective.Rewards);
        for (var i = 0; i < rewards.Count; i++)
        {
            foreach (var (key, path, written) in new[] { ("schema", rewards[i].Schema, given[i].Schema), ("assembly", rewards[i].Assembly, given[i].Assembly), ("model", rewards[i].Model, given[i].Model) })
            {
                if (path is { Length: > 0 } && !(key == "model" && ModelPath.IsOnHub(path)) && !Path.Exists(path))
                {
                    yield return file.NotThere(string.Create(CultureInfo.InvariantCulture, $"objective.rewards.{i}.{key}"), written!);
                }
            }
        }
    }

    private static ConfigProblem? DataProblem(ConfigFile file, string key, string path, string written)
    {
        if (GivenRows.Is(path))
        {
            return file.Problem(key, GivenRows.Gone, isFile: true);
        }

        try
        {
            _ = HubDataPath.Is(path) ? [] : DataPaths.Expand(path);
            return null;
        }
        catch (FileNotFoundException)
        {
            var problem = file.NotThere(key, written);
            return HubName.IsName(written) && Path.GetExtension(written).Length == 0
                ? problem with { Message = $"{problem.Message} (To name a data set of the Hugging Face Hub, write hub://{written}.)" }
                : problem;
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
                yield return file.Problem("output_dir", $"{at} is a file; choose another folder.");
            }
        }

        if (RunFolder.Foreign(file.Config.OutputDir) is { } foreign)
        {
            yield return file.Problem("output_dir", $"{file.Config.OutputDir}: {foreign}");
        }
    }

    // Loading torch takes time, and is needed only if a GPU is requested by name.
    private static IEnumerable<ConfigProblem> Device(ConfigFile file)
    {
        string? problem = null;
        try
        {
            _ = file.Config.Model.Device.Is("auto") || file.Config.Model.Device.Is("cpu") || file.IsWrong("model.device") ? null : Devices.Find(file.Config.Model.Device.Values);
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
        void Add(Exception e) => problems.Add(file.Problem("model.path", e.Message, isFile: true));
        DecoderConfig decoder;
        ModelFolder folder;
        try
        {
            if (Run(file) is { } run)
            {
                return [run];
            }

            if (FolderOf(file.Config.Model.Path) is not { } path)
            {
                return problems;
            }

            folder = ModelFolder.Open(path);
            decoder = ModelLoader.ReadConfig(folder);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            Add(e);
            return problems;
        }

        try
        {
            using var weights = folder.OpenWeights();
            decoder = ModelLoader.Check(folder, weights, out _);
        }
        catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
        {
            Add(e);
        }

        problems.AddRange(Template(file, folder.FolderPath));

        using var nothing = no_grad();
        try
        {
            decoder = decoder.With(file.IsWrong("objective.type") || OwnClass.Is(file.Config.Objective.Type) ? null : LabelHeads.Expected(file.Config, decoder));
        }
        catch (InvalidDataException e)
        {
            problems.Add(file.Problem("objective.type", e.Message));
            return problems;
        }

        using var model = new CausalLanguageModel(decoder, new MetaWeightSource()) { SourceFolder = folder.FolderPath, IsMeta = true };
        problems.AddRange(Trained(file, model));
        if (EmbeddingChoice.Problem(file.Config, model) is { } oneWay)
        {
            problems.Add(file.Problem("objective.attention", oneWay));
        }

        if (file.Config.Model.RouterAuxLoss > 0 && !model.HasRouters)
        {
            problems.Add(file.Problem("model.router_aux_loss", "the model has no mixture of experts, so there are no routers to balance; remove it."));
        }

        return problems;
    }

    // Other commands accept a run folder as a model with its adapter; here they are two settings.
    private static ConfigProblem? Run(ConfigFile file) => ModelPath.WithAdapter(file.Config.Model.Path) is (var @base, { })
        ? file.Problem("model.path", $"{file.Config.Model.Path} is a run that trained an adapter on {@base}; set model.path: {@base}, and adapter.path: {file.Written.Model.Path} to continue training that adapter.", isFile: true)
        : null;

    private static IEnumerable<ConfigProblem> Template(ConfigFile file, string folder)
    {
        if (file.Config.Model.ChatTemplate is not { } template || NamedTemplates.Problem(template, folder) is not { } problem)
        {
            return [];
        }

        var isPath = template.Contains('/', StringComparison.Ordinal) || Path.HasExtension(template);
        return [isPath ? file.NotThere("model.chat_template", file.Written.Model.ChatTemplate!) : file.Problem("model.chat_template", problem)];
    }

    // A model on the Hub is checked if its config is cached.
    private static string? FolderOf(string model)
    {
        if (model.Length == 0)
        {
            return null;
        }

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
            return [file.Problem("training.low_precision", "stochastic_rounding requires bfloat16, but model.dtype is float16; set it to master_weights.")];
        }

        if (config.Adapter is not { } section)
        {
            return config.Training.FirstTrainedLayer < model.Config.LayerCount ? []
                : [file.Problem("training.first_trained_layer", TrainedModel.NoSuchLayer(config.Training.FirstTrainedLayer, model.Config.LayerCount))];
        }

        if (section.Path is null)
        {
            // A plain name is a list of one, so its position has no list index.
            var bare = new[] { ("target_modules", section.TargetModules), ("exclude_modules", section.ExcludeModules) }.Where(static t => t.Item2 is { IsList: false }).Select(static t => $"{t.Item1}.0").ToList();
            var settings = TrainedModel.Settings(section, model.Config);
            var problems = AdapterKinds.Of(settings).Problems(model, settings);
            var ranksAreWrong = file.Problems.Any(static p => p.Key == "adapter.r" || p.Key.StartsWith("adapter.rank_pattern", StringComparison.Ordinal));
            return problems.Where(p => p.Setting != "init_lora_weights" || !ranksAreWrong).Select(p => file.Problem($"adapter.{(bare.Contains(p.Setting) ? p.Setting[..^2] : p.Setting)}", p.Message));
        }

        if (AdapterFolder.Find(section.Path) is not { } path)
        {
            return [];
        }

        try
        {
            // Only meta weights are used; if the weight files exist, their values are compared with the adapter's fingerprint.
            using var adapter = PeftFolder.Load(model, path, anyBase: section.AnyBase);
            return [];
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            return [file.Problem("adapter.path", e.Message, isFile: true)];
        }
    }
}
