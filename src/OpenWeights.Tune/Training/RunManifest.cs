using System.Reflection;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Training;

/// <summary>manifest.json: what a run was made from.</summary>
internal static class RunManifest
{
    // Larger weight files are identified by header and size: hashing them completely would take minutes.
    private const long WholeFileBytes = 2L << 30;

    /// <summary>File name.</summary>
    internal const string Name = "manifest.json";

    /// <summary>Writes the manifest.</summary>
    /// <param name="path">The file.</param>
    /// <param name="config">The complete config, including defaults.</param>
    /// <param name="model">Folder of the base model.</param>
    /// <param name="command">The command that started the run.</param>
    /// <param name="changed">Receives what changed since the run was started, for a resumed run; null for a new run.</param>
    /// <param name="ranks">Number of ranks that compute the run.</param>
    internal static void Write(string path, RunConfig config, ModelFolder model, string command, Action<string>? changed, int ranks = 1)
    {
        using var weights = model.OpenWeights();
        var manifest = new JsonObject
        {
            ["started"] = DateTimeOffset.Now.ToString("o"),
            ["command"] = command,
            ["seed"] = config.Seed,
            ["version"] = typeof(RunManifest).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion,
            ["torch_runtime"] = TorchSupplier.Current.Name,
            ["torch_version"] = TorchSupplier.Current.Version,
            ["torch_threads"] = TorchSharp.torch.get_num_threads(),
            ["ranks"] = ranks,
            ["dotnet"] = RuntimeInformation.FrameworkDescription,
            ["os"] = RuntimeInformation.OSDescription,
            ["architecture"] = RuntimeInformation.ProcessArchitecture.ToString(),
            ["model"] = Hashes([Path.Combine(model.FolderPath, ModelFolder.ConfigName), .. weights.FilePaths]),
            ["data"] = Hashes([.. config.Data.Train.Concat(config.Data.Eval).Where(static s => s.Path.Length > 0 && s.Rows is null).SelectMany(DataFile.Stored).Distinct()]),
            ["compared"] = Hashes(Compared(config, model.FolderPath)),
            ["config"] = "sha256:" + Convert.ToHexStringLower(SHA256.HashData(System.Text.Encoding.UTF8.GetBytes(ConfigWriter.Write(config)))),
        };
        if (changed is not null && File.Exists(path))
        {
            Compare(JsonFile.ReadObject(path), manifest, changed);
        }

        AtomicFile.WriteText(path, PythonJson.Serialize(manifest, indent: 2, sortKeys: false, ensureAscii: false) + "\n");
    }

    /// <summary>Number of ranks that a run was last computed with; 1 if there is no manifest.</summary>
    /// <param name="folder">Folder of the run.</param>
    internal static int Ranks(string folder)
    {
        var path = Path.Combine(folder, Name);
        return File.Exists(path) && JsonFile.ReadObject(path)["ranks"] is JsonValue ranks && ranks.TryGetValue<int>(out var count) ? Math.Max(1, count) : 1;
    }

    // Entries about completed steps are kept.
    private static void Compare(JsonObject before, JsonObject now, Action<string> changed)
    {
        foreach (var (key, what, uses) in new[]
            { ("model", "the base model's files", "base weights"), ("data", "the data", "rows"), ("compared", "the files of the teacher, reference or reward model", "teachers or judges") })
        {
            var (old, current) = (before[key] as JsonObject, (JsonObject)now[key]!);
            static List<string> Values(JsonObject files) => [.. files.Select(static f => f.Value!.ToString()).Order(StringComparer.Ordinal)];
            var first = before[$"{key}_at_start"] as JsonObject ?? old;
            if (first is not null && !Values(first).SequenceEqual(Values(current)))
            {
                var names = current.Where(f => !first.Any(o => JsonNode.DeepEquals(o.Value, f.Value))).Concat(first.Where(o => !current.Any(f => JsonNode.DeepEquals(o.Value, f.Value))))
                    .Select(static f => Path.GetFileName(f.Key)).Distinct();
                changed($"{what} ({string.Join(", ", names)}) changed since the run was started; the remaining steps use other {uses} than the completed ones.");
                now[$"{key}_at_start"] = first.DeepClone();
            }
        }
    }

    /// <summary>Adds the result to a run's manifest.</summary>
    /// <param name="path">The file.</param>
    /// <param name="result">The result.</param>
    internal static void Add(string path, RunResult result)
    {
        var manifest = JsonFile.ReadObject(path);
        manifest["finished"] = DateTimeOffset.Now.ToString("o");
        manifest["result"] = new JsonObject
        {
            ["folder"] = result.Name,
            ["step"] = result.Step,
            ["last_step"] = result.LastStep,
            ["best_step"] = result.BestStep,
            ["best_eval_loss"] = result.BestLoss,
        };
        AtomicFile.WriteText(path, PythonJson.Serialize(manifest, indent: 2, sortKeys: false, ensureAscii: false) + "\n");
    }

    /// <summary>The result of the run in a folder; null if it is unfinished, or the result no longer exists.</summary>
    /// <param name="folder">The run's folder.</param>
    /// <exception cref="InvalidDataException">The manifest cannot be read.</exception>
    internal static RunResult? Result(string folder)
    {
        var path = Path.Combine(folder, Name);
        if (!File.Exists(path) || JsonFile.ReadObject(path)["result"] is not JsonObject result)
        {
            return null;
        }

        T? Number<T>(string key)
            where T : struct => result[key] switch
            {
                null => null,
                JsonValue value when value.TryGetValue<T>(out var number) => number,
                var other => throw new InvalidDataException($"{path}: result.{key}: a number is expected, not {other.ToJsonString()}."),
            };
        long Step(string key) => Number<long>(key) ?? throw new InvalidDataException($"{path}: result.{key}: this number is missing.");

        // A name with a path in it could lead to any folder of the machine.
        var name = result["folder"]?.ToString() ?? "";
        if (name.Length == 0 || name is "." or ".." || name.AsSpan().IndexOfAny("/\\:\0") >= 0)
        {
            throw new InvalidDataException($"{path}: result.folder: the name of a folder within the run's is expected, not {name}.");
        }

        var place = Path.Combine(folder, name);
        return !Directory.Exists(place) ? null : new RunResult(place, Step("step"), Step("last_step"))
        {
            BestStep = Number<long>("best_step"),
            BestLoss = Number<double>("best_eval_loss"),
        };
    }

    // Files of the models besides the trained one: the teacher or reference, and reward models.
    private static List<string> Compared(RunConfig config, string modelPath)
    {
        var objective = config.Objective;
        var folders = new List<(string Model, string? Adapter)>();
        if (ObjectiveKinds.Of(objective).ComparesWithReference(objective))
        {
            var compared = ComparedModel.Of(config, modelPath);
            folders.Add((compared.Folder == modelPath ? "" : compared.Folder, compared.Adapter));
        }

        foreach (var reward in objective.Rewards.Where(static r => r.Model is not null))
        {
            var (model, adapter) = ModelPath.WithAdapter(reward.Model!);
            folders.Add((ModelPath.Resolve(model), adapter));
        }

        return [.. folders.Where(static f => f.Model.Length > 0).SelectMany(static f => ComparedModel.ModelFiles(f.Model)),
            .. folders.SelectMany(static f => ComparedModel.AdapterFiles(f.Adapter))];
    }

    private static JsonObject Hashes(IEnumerable<string> paths)
    {
        var hashes = new JsonObject();
        foreach (var path in paths)
        {
            using var stream = File.OpenRead(path);
            hashes[path] = stream.Length <= WholeFileBytes
                ? "sha256:" + Convert.ToHexStringLower(SHA256.HashData(stream))
                : $"sha256 of the first MiB:{FirstMebibyte(stream)}, {stream.Length} bytes";
        }

        return hashes;
    }

    private static string FirstMebibyte(FileStream stream)
    {
        var start = new byte[1 << 20];
        stream.ReadExactly(start);
        return Convert.ToHexStringLower(SHA256.HashData(start));
    }
}
