using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Formats.HuggingFace;

/// <summary>A Hugging Face model folder: its config, tokenizer and licence files, and its weights, which are opened only when asked for.</summary>
public sealed class ModelFolder
{
    /// <summary>The file name of a model's config.</summary>
    public const string ConfigName = "config.json";

    /// <summary>Name of the folder with additional chat templates.</summary>
    public const string TemplatesName = "additional_chat_templates";

    /// <summary>The file name of the generation settings.</summary>
    public const string GenerationConfigName = "generation_config.json";

    private const string EosKey = "eos_token_id";

    private static readonly string[] TokenizerNames =
    [
        "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "tekken.json", "spiece.model",
        "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    ];

    private static readonly string[] LicenseStarts = ["license", "licence", "notice", "copying", "use_policy", "acceptable_use"];

    private ModelFolder(string path)
    {
        FolderPath = path;
        Config = JsonFile.ReadObject(Path.Combine(path, ConfigName));
        var generationPath = Path.Combine(path, GenerationConfigName);
        GenerationConfig = File.Exists(generationPath) ? JsonFile.ReadObject(generationPath) : null;
        EosTokenIds = TokenIds.Read(GenerationConfig, EosKey, generationPath)
            ?? TokenIds.Read(Config, EosKey, Path.Combine(path, ConfigName))
            ?? TokenIds.Read(TextConfig, EosKey, Path.Combine(path, ConfigName))
            ?? [];
        TokenizerFiles = [.. TokenizerNames.Where(name => File.Exists(Path.Combine(path, name))), .. ExtraTemplates(path)];
        ProcessorFiles = [.. Names(path).Where(static name => name.Contains("processor", StringComparison.Ordinal) && name.EndsWith(".json", StringComparison.Ordinal))];
        LicenseFiles = [.. Names(path).Where(IsLicense)];
    }

    /// <summary>The folder, as it was given.</summary>
    public string FolderPath { get; }

    /// <summary>config.json, its keys in the file's order. It is this folder's one copy: clone it to change it.</summary>
    public JsonObject Config { get; }

    /// <summary>The settings of the text model: <see cref="Config"/>, or what belongs to the text model inside a multimodal one.</summary>
    public JsonObject TextConfig => FamilyTable.FindMultimodal(Config)?.TextConfig(Config) ?? Config;

    /// <summary>generation_config.json; null if absent.</summary>
    public JsonObject? GenerationConfig { get; }

    /// <summary>The ids that end a text: generation_config.json's <c>eos_token_id</c>, or config.json's where that has none; one
    /// number or an array in the file. Empty where the model declares none.</summary>
    public IReadOnlyList<int> EosTokenIds { get; }

    /// <summary>The names, relative to the folder, of the tokenizer and chat template files that are there.</summary>
    public IReadOnlyList<string> TokenizerFiles { get; }

    /// <summary>The names of the files that say how images, video and sound are prepared for a multimodal model, such as
    /// preprocessor_config.json.</summary>
    public IReadOnlyList<string> ProcessorFiles { get; }

    /// <summary>The names of the licence, notice and use-policy files that are there.</summary>
    public IReadOnlyList<string> LicenseFiles { get; }

    /// <summary>Opens a model folder: reads the configs and finds the other files. The weights are not read.</summary>
    /// <param name="path">The folder.</param>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="FileNotFoundException">The folder has no config.json.</exception>
    /// <exception cref="InvalidDataException">The folder is an adapter's, a file was given, or a config is invalid (the message
    /// gives line and column).</exception>
    public static ModelFolder Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (File.Exists(path))
        {
            throw new InvalidDataException($"{path} is a file; give the model's folder, which holds {ConfigName} and the weights");
        }

        if (!Directory.Exists(path))
        {
            throw new DirectoryNotFoundException($"{path} does not exist; check the path or download the model");
        }

        if (AdapterFolder.IsAdapter(path))
        {
            throw new InvalidDataException($"{path} is an adapter; give its base as the model and it as the adapter");
        }

        return File.Exists(Path.Combine(path, ConfigName))
            ? new ModelFolder(path)
            : throw new FileNotFoundException(
                $"{path} has no {ConfigName}, so it is not a model folder; check the path or download the model whole",
                Path.Combine(path, ConfigName));
    }

    /// <summary>Whether a folder is a model's: it has config.json and is not an adapter's.</summary>
    /// <param name="path">The folder.</param>
    public static bool IsModel(string path) => File.Exists(Path.Combine(path, ConfigName)) && !AdapterFolder.IsAdapter(path);

    /// <summary>The folder of the model that a path means: its own folder, or a training run's, or a checkpoint's; null where there is
    /// none.</summary>
    /// <param name="path">The path.</param>
    public static string? Find(string path) => RunPlaces.Of(path, "model").FirstOrDefault(IsModel);

    /// <summary>Opens the weights: the tensors under the names of the family's modules, and in their shapes, however they are
    /// stored; of a multimodal model, those of its text model.</summary>
    /// <returns>The weights; dispose them.</returns>
    /// <exception cref="FileNotFoundException">As <see cref="CheckpointWeights.Open(string)"/>.</exception>
    /// <exception cref="InvalidDataException">As <see cref="CheckpointWeights.Open(string)"/>.</exception>
    public CheckpointWeights OpenWeights() => CheckpointWeights.Open(
        FolderPath,
        new WeightReading(FamilyTable.LayoutOf(Config), FamilyTable.FindMultimodal(Config) is { } whole ? whole.IsText : null, QuantizedFormats.Of(QuantizationConfig.Of(Config, FolderPath))));

    /// <summary>Copies what goes with the weights, unchanged, into another folder: tokenizer and template files,
    /// generation_config.json, licences.</summary>
    /// <param name="destination">An existing folder; files of the same names are replaced.</param>
    /// <returns>The names that were copied, relative to the folder.</returns>
    /// <exception cref="IOException">A file could not be read or written; the message names it.</exception>
    /// <exception cref="UnauthorizedAccessException">A file may not be read, or the folder may not be written to.</exception>
    public IReadOnlyList<string> CopyCompanions(string destination)
    {
        ArgumentException.ThrowIfNullOrEmpty(destination);
        string[] generation = GenerationConfig is null ? [] : [GenerationConfigName];
        string[] names = [.. TokenizerFiles, .. ProcessorFiles, .. generation, .. LicenseFiles];
        foreach (var name in names)
        {
            var target = Path.Combine(destination, name);
            if (Path.GetDirectoryName(name) is { Length: > 0 })
            {
                Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            }

            AtomicFile.Copy(Path.Combine(FolderPath, name), target);
        }

        return names;
    }

    /// <summary>Copies the tokenizer and chat template files alone.</summary>
    /// <param name="destination">An existing folder; files of the same names are replaced.</param>
    /// <exception cref="IOException">A file could not be read or written; the message names it.</exception>
    public void CopyTokenizer(string destination)
    {
        ArgumentException.ThrowIfNullOrEmpty(destination);
        foreach (var name in TokenizerFiles)
        {
            var target = Path.Combine(destination, name);
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            AtomicFile.Copy(Path.Combine(FolderPath, name), target);
        }
    }

    private static bool IsLicense(string name) => LicenseStarts.Any(start => name.StartsWith(start, StringComparison.OrdinalIgnoreCase));

    /// <summary>Additional chat templates, which transformers stores in a folder of their own.</summary>
    private static IEnumerable<string> ExtraTemplates(string path)
    {
        var full = Path.Combine(path, TemplatesName);
        return Directory.Exists(full)
            ? Names(full).Where(name => name.EndsWith(".jinja", StringComparison.Ordinal)).Select(name => Path.Combine(TemplatesName, name))
            : [];
    }

    private static IEnumerable<string> Names(string folder) =>
        Directory.EnumerateFiles(folder).Select(file => Path.GetFileName(file)).Order(StringComparer.Ordinal);
}

/// <summary>Token ids as the configs hold them: one number, an array of numbers, or null.</summary>
internal static class TokenIds
{
    /// <summary>The ids under a key; null where the key is absent or null.</summary>
    /// <exception cref="InvalidDataException">The value is something else.</exception>
    public static IReadOnlyList<int>? Read(JsonObject? config, string key, string path) => config?[key] switch
    {
        null => null,
        JsonArray array => [.. array.Select(item => One(item, key, path)).Distinct()],
        var single => [One(single, key, path)],
    };

    private static int One(JsonNode? node, string key, string path) =>
        node is JsonValue value && value.TryGetValue<int>(out var id) && id >= 0
            ? id
            : throw new InvalidDataException($"{path}: {key} is {node?.ToJsonString() ?? "null"}, which is not a token id "
                + "(a whole number from 0 on, or an array of them); correct it");
}

/// <summary>
/// Where a training run's folder holds what it made: <c>adapter</c> or <c>model</c> at its end, and <c>weights</c> in each of its
/// <c>checkpoints</c>.
/// </summary>
internal static class RunPlaces
{
    /// <summary>The folders that a path may mean, the likeliest first: itself, a run's result, a checkpoint's weights, the newest checkpoint's.</summary>
    /// <param name="path">The path.</param>
    /// <param name="result">Name of the result's folder.</param>
    internal static IEnumerable<string> Of(string path, string result)
    {
        yield return path;
        yield return Path.Combine(path, result);
        yield return Path.Combine(path, "weights");
        foreach (var checkpoints in new[] { Path.Combine(path, "checkpoints"), path }.Where(Directory.Exists))
        {
            foreach (var step in Directory.EnumerateDirectories(checkpoints, "step-*").OrderDescending(StringComparer.Ordinal))
            {
                yield return Path.Combine(step, "weights");
            }
        }
    }
}
