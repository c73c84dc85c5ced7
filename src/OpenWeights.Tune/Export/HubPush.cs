using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Hub;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Export;

/// <summary>What is uploaded to the Hub: an adapter, a model folder, or a GGUF file, with a model card.</summary>
/// <param name="Kind">adapter, model or gguf.</param>
/// <param name="Files">The files.</param>
/// <param name="Card">The model card, one of the files.</param>
/// <param name="License">The licence that the card states; null if none is known.</param>
internal sealed record HubPush(string Kind, IReadOnlyList<HubUploadFile> Files, string Card, string? License)
{
    private static readonly string[] s_settings = ["peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "target_parameters", "modules_to_save", "trainable_token_indices"];

    /// <summary>Finds what a path is, and writes its card unless it has one.</summary>
    /// <param name="path">A run's folder, an adapter's or a model's, or a GGUF file.</param>
    /// <param name="repository">ORG/NAME.</param>
    /// <exception cref="InvalidDataException">The path is none of these.</exception>
    public static HubPush Of(string path, string repository)
    {
        ArgumentNullException.ThrowIfNull(path);
        ArgumentNullException.ThrowIfNull(repository);
        if (File.Exists(path))
        {
            return GgufFile.IsGguf(path) ? OfGguf(path, repository) : throw new InvalidDataException($"{path}: this is no GGUF file; give one, or the folder of a run, an adapter or a model.");
        }

        if (AdapterFolder.Find(path) is { } adapter)
        {
            return OfFolder("adapter", adapter, repository);
        }

        return ModelFolder.Find(path) is { } model ? OfFolder("model", model, repository)
            : throw new InvalidDataException(Directory.Exists(path) ? $"{path}: this is neither the folder of a run, nor an adapter's, nor a model's." : $"{path}: no such folder or file.");
    }

    private static HubPush OfFolder(string kind, string folder, string repository)
    {
        // A hidden file is never uploaded, and a link only if it leads to a file.
        var files = new DirectoryInfo(folder).EnumerateFiles("*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = FileAttributes.System })
            .Select(file => (Name: Path.GetRelativePath(folder, file.FullName).Replace('\\', '/'), file.FullName))
            .Where(static f => !f.Name.Split('/').Any(static p => p.StartsWith('.')) && f.Name != ModelCard.Name)
            .OrderBy(static f => f.Name, StringComparer.Ordinal)
            .Select(static f => HubUploadFile.Of(f.Name, f.FullName)).ToList();
        var own = Path.Combine(folder, ModelCard.Name);
        var (card, license) = File.Exists(own) && kind == "model" ? (File.ReadAllText(own), CardSettings.Read(folder).Text("license")) : Written(kind, folder, repository);
        return With(kind, files, card, license);
    }

    private static HubPush OfGguf(string path, string repository)
    {
        using var file = GgufFile.Open(path);
        string? Text(string key) => file.Metadata.Text(key) is { Length: > 0 } text ? text : null;
        var (license, name) = (Text("general.license"), Text("general.base_model.0.name") ?? Text("general.name"));
        var card = new StringBuilder(Header(license, Text("general.base_model.0.repo_url") is { } url && url.StartsWith("https://huggingface.co/", StringComparison.Ordinal) ? url["https://huggingface.co/".Length..] : name, ["gguf"], [], "gguf"));
        _ = card.Append(CultureInfo.InvariantCulture, $"# {Title(repository)}\n\nA GGUF file for llama.cpp and programs that use it, written with OpenWeights.Tune{(name is null ? "" : $" from {name}")}.\n");
        AppendLicense(card, license);
        var modelfile = Path.ChangeExtension(path, ".Modelfile");
        List<HubUploadFile> files = [HubUploadFile.Of(Path.GetFileName(path), path), .. File.Exists(modelfile) ? [HubUploadFile.Of(Path.GetFileName(modelfile), modelfile)] : Array.Empty<HubUploadFile>()];
        return With("gguf", files, card.ToString(), license);
    }

    private static HubPush With(string kind, IReadOnlyList<HubUploadFile> files, string card, string? license) => new(kind, [HubUploadFile.OfText(ModelCard.Name, card), .. files], card, license);

    private static (string Card, string? License) Written(string kind, string folder, string repository)
    {
        var run = RunFigures.Of(folder);
        var config = kind == "adapter" ? AdapterFolder.Open(folder).Config : null;
        var @base = run?.Base ?? config?["base_model_name_or_path"]?.ToString();
        var (place, license) = (@base is null ? null : Directory.Exists(@base) ? @base : ModelPath.Cached(@base), (string?)null);
        license = place is null ? null : CardSettings.Read(place).Text("license");
        var name = @base is null ? null : Directory.Exists(@base) ? ModelPath.NameOf(@base) : @base.StartsWith("hub:", StringComparison.Ordinal) ? @base[4..] : @base;
        var tag = config?["peft_type"]?.ToString().ToLowerInvariant();
        var card = new StringBuilder(Header(license, name, tag is null ? [] : [tag], run?.DataSets ?? [], kind == "adapter" ? "peft" : "transformers"));
        _ = card.Append(CultureInfo.InvariantCulture, $"# {Title(repository)}\n\n{(kind == "adapter" ? "An adapter" : "A model")}{(name is null ? "" : kind == "adapter" ? $" for `{name}`" : $" fine-tuned from `{name}`")}, trained with OpenWeights.Tune.\n");
        AppendLicense(card, license);
        AppendSettings(card, config);
        if (run?.Table() is { Length: > 0 } figures)
        {
            _ = card.Append("\n## Figures\n\n").Append(figures);
        }

        if (run is not null)
        {
            _ = card.Append("\n## Data and settings\n\nThe run's config, including defaults:\n\n```yaml\n").Append(ModelCard.WithoutPlaces(run.Config).TrimEnd()).Append("\n```\n");
        }

        return (card.ToString(), license);
    }

    private static string Header(string? license, string? @base, IReadOnlyList<string> tags, IReadOnlyList<string> data, string library)
    {
        var header = new StringBuilder("---\n");
        void Line(string key, string value) => _ = header.Append(CultureInfo.InvariantCulture, $"{key}: {value}\n");
        string Quoted(string text) => PythonJson.Serialize(JsonValue.Create(text), indent: null);
        if (license is not null)
        {
            Line("license", license);
        }

        if (@base is not null)
        {
            Line("base_model", Quoted(@base));
        }

        Line("library_name", library);
        Line("tags", $"[{string.Join(", ", tags.Append("openweights-tune"))}]");
        if (data.Count > 0)
        {
            Line("datasets", $"[{string.Join(", ", data.Select(Quoted))}]");
        }

        return header.Append("---\n\n").ToString();
    }

    private static void AppendLicense(StringBuilder card, string? license) => _ = card.Append(license is null
        ? "\n## Licence\n\nThe base model's files name no licence here. Its terms apply to this model too: look them up before you use or distribute it.\n"
        : $"\n## Licence\n\nThe base model's, {license}. Its terms apply to this model too.\n");

    private static void AppendSettings(StringBuilder card, JsonObject? config)
    {
        if (config is null)
        {
            return;
        }

        _ = card.Append("\n## Adapter\n\n");
        foreach (var key in s_settings.Where(k => config[k] is not null and not JsonArray { Count: 0 }))
        {
            _ = card.Append(CultureInfo.InvariantCulture, $"- {key}: {config[key]!.ToJsonString()}\n");
        }
    }

    private static string Title(string repository) => repository[(repository.IndexOf('/', StringComparison.Ordinal) + 1)..];
}
