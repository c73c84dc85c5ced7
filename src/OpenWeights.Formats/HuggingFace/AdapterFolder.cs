using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.HuggingFace;

/// <summary>
/// A PEFT adapter folder, at the level of bytes and names: <c>adapter_config.json</c> and <c>adapter_model.safetensors</c>, read
/// and written as PEFT does (<see href="https://github.com/huggingface/peft/blob/main/src/peft/config.py"/>).
/// </summary>
public sealed class AdapterFolder
{
    /// <summary>The file name of an adapter's config.</summary>
    public const string ConfigName = "adapter_config.json";

    /// <summary>The file name of an adapter's tensors.</summary>
    public const string WeightsName = "adapter_model.safetensors";

    private const string PickleName = "adapter_model.bin";

    private AdapterFolder(string path)
    {
        FolderPath = path;
        Config = JsonFile.ReadObject(Path.Combine(path, ConfigName));
    }

    /// <summary>The folder with the two files.</summary>
    public string FolderPath { get; }

    /// <summary>adapter_config.json, its keys in the file's order. It is this folder's one copy: clone it to change it.</summary>
    public JsonObject Config { get; }

    /// <summary>The folder of the adapter that a path means: its own folder, or a training run's, or a checkpoint's; null where there is
    /// none.</summary>
    /// <param name="path">The path.</param>
    public static string? Find(string path) => RunPlaces.Of(path, "adapter").FirstOrDefault(IsAdapter);

    /// <summary>Opens an adapter folder, or the one within a training run's folder or a checkpoint, and reads its config. The tensors are
    /// not read.</summary>
    /// <param name="path">The folder.</param>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="FileNotFoundException">The folder has no adapter_config.json.</exception>
    /// <exception cref="InvalidDataException">The folder is a model's, a file was given, or the config is invalid (the message
    /// gives line and column).</exception>
    public static AdapterFolder Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (File.Exists(path))
        {
            throw new InvalidDataException($"{path} is a file; give the adapter's folder, which holds {ConfigName} and {WeightsName}");
        }

        if (!Directory.Exists(path))
        {
            throw new DirectoryNotFoundException($"{path} does not exist; check the path of the adapter");
        }

        if (File.Exists(Path.Combine(path, ConfigName)))
        {
            return new AdapterFolder(path);
        }

        if (Find(path) is { } within)
        {
            return new AdapterFolder(within);
        }

        throw ModelFolder.IsModel(path)
            ? new InvalidDataException($"{path} is a model and not an adapter; give it as the model, and an adapter's folder as the adapter")
            : new FileNotFoundException(
                $"{path} has no {ConfigName}, so it is not an adapter folder, and it is no training run or checkpoint with one; check the path", Path.Combine(path, ConfigName));
    }

    /// <summary>Whether a folder is an adapter's: it has adapter_config.json, but no model config with weights.</summary>
    /// <param name="path">The folder.</param>
    public static bool IsAdapter(string path) =>
        File.Exists(Path.Combine(path, ConfigName))
        && !(File.Exists(Path.Combine(path, ModelFolder.ConfigName)) && CheckpointWeights.ExistIn(path));

    /// <summary>Opens the adapter's tensors.</summary>
    /// <param name="rename">The name of a tensor for its name in the file; null for the same.</param>
    /// <returns>The file; dispose it.</returns>
    /// <exception cref="FileNotFoundException">The folder has no adapter_model.safetensors; the message says what it has
    /// instead.</exception>
    /// <exception cref="InvalidDataException">As <see cref="SafetensorsFile.Open"/>.</exception>
    public SafetensorsFile OpenWeights(Func<string, string>? rename = null)
    {
        var path = Path.Combine(FolderPath, WeightsName);
        if (File.Exists(path))
        {
            return SafetensorsFile.Open(path, rename);
        }

        throw new FileNotFoundException(File.Exists(Path.Combine(FolderPath, PickleName))
            ? $"{FolderPath} has the adapter's weights only in PyTorch's own format ({PickleName}); "
                + "save the adapter again with a current PEFT, or download its safetensors version"
            : $"{FolderPath} has no {WeightsName}; download the adapter whole", path);
    }

    /// <summary>
    /// Writes an adapter's two files, each atomically, the config last. To have both appear in one step, write into the work folder
    /// of an <see cref="AtomicFolder"/>.
    /// </summary>
    /// <param name="path">The folder; it is created where it is missing, and other files in it stay.</param>
    /// <param name="config">The config; written as PEFT does: keys sorted, two spaces a level, ASCII only, no newline at the end.</param>
    /// <param name="tensors">The tensors; the file's metadata begins with <c>format: pt</c>.</param>
    /// <param name="more">More metadata of the tensors' file; null for none.</param>
    /// <exception cref="ArgumentException">Two tensors have one name, or a number of the config is not finite.</exception>
    /// <exception cref="InvalidOperationException">A tensor's callback gave more or fewer bytes than the tensor has.</exception>
    /// <exception cref="IOException">The disk is full or refused otherwise; the message names the path and the cause.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written to.</exception>
    public static void Write(string path, JsonObject config, IReadOnlyList<TensorToWrite> tensors, IReadOnlyDictionary<string, string>? more = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(config);
        var text = PythonJson.Serialize(config);
        Directory.CreateDirectory(path);
        SafetensorsWriter.Write(Path.Combine(path, WeightsName), tensors, new Dictionary<string, string>([KeyValuePair.Create("format", "pt"), .. more ?? new Dictionary<string, string>()]));
        AtomicFile.WriteText(Path.Combine(path, ConfigName), text);
    }
}
