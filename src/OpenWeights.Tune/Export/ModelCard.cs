using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Export;

/// <summary>Writes model cards: the README.md of a model folder, with the Hub's metadata between its first two lines of dashes.</summary>
internal static partial class ModelCard
{
    internal const string Name = "README.md";
    private const string RunConfigName = "config.yaml";

    /// <summary>A card for a model merged from a base model and adapters.</summary>
    /// <param name="base">The base model.</param>
    /// <param name="baseName">The base model as the user named it: its path or Hub name.</param>
    /// <param name="adapters">The adapters' folders, with their weights; a run folder provides data and settings.</param>
    public static string Write(ModelFolder @base, string baseName, IReadOnlyList<(string Folder, double Weight)> adapters)
    {
        ArgumentNullException.ThrowIfNull(@base);
        ArgumentNullException.ThrowIfNull(adapters);
        var card = new StringBuilder("---\n");
        var license = CardSettings.Read(@base.FolderPath).Text("license");
        if (license is not null)
        {
            _ = card.Append(CultureInfo.InvariantCulture, $"license: {license}\n");
        }

        _ = card.Append(CultureInfo.InvariantCulture, $"base_model: {PythonJson.Serialize(JsonValue.Create(baseName), indent: null)}\n{Use(@base, adapters)}---\n\n");
        _ = card.Append(CultureInfo.InvariantCulture, $"# Model card\n\nCreated with OpenWeights.Tune from the base model `{baseName}`");
        _ = card.Append(adapters.Count switch
        {
            0 => ".\n",
            1 => ", with a fine-tuned adapter merged into its weights.\n",
            _ => ", with fine-tuned adapters merged into its weights.\n",
        });
        var licenses = @base.LicenseFiles.Count > 0 ? $"; its text is in {string.Join(", ", @base.LicenseFiles)}" : "";
        _ = card.Append(license is null && licenses.Length == 0
            ? "\n## Licence\n\nThe base model's folder names no licence. The terms of the base model apply to this model too: look them up before you distribute it.\n"
            : string.Create(CultureInfo.InvariantCulture, $"\n## Licence\n\nThe base model's{(license is null ? "" : $", {license}")}{licenses}. Its terms apply to this model too.\n"));
        foreach (var (folder, weight) in adapters)
        {
            AppendAdapter(card, folder, weight);
        }

        return card.ToString();
    }

    // What the Hub should offer the model for; its own choice for a language model.
    private static string Use(ModelFolder @base, IReadOnlyList<(string Folder, double Weight)> adapters)
    {
        var folders = adapters.Select(static a => AdapterFolder.Find(a.Folder)).OfType<string>().ToList();
        return folders.Append(@base.FolderPath).Any(static f => EmbeddingFiles.Find(f) is not null) ? "library_name: sentence-transformers\npipeline_tag: sentence-similarity\n"
            : LabelHead.Of(@base.Config, @base.FolderPath) is not null || folders.Any(static f => LabelFile.Of(f) is not null) ? "library_name: transformers\npipeline_tag: text-classification\n"
            : "library_name: transformers\n";
    }

    // Cards are meant to be shared: of a local path only the last part is kept. Such paths are quoted in the run's config, and
    // quoted again within a query.
    internal static string WithoutPlaces(string yaml) => Quoted().Replace(yaml, static m => $"\"{LastName(m.Groups[1].Value) ?? QuotedWithin().Replace(m.Groups[1].Value, static q => $"'{LastName(q.Groups[1].Value) ?? q.Groups[1].Value}'")}\"");

    private static string? LastName(string text) => RootedPath().IsMatch(text) ? text.TrimEnd('/', '\\').Split('/', '\\')[^1] : null;

    [GeneratedRegex("""
        "((?:[^"\\\n]|\\.)*)"
        """)]
    private static partial Regex Quoted();

    [GeneratedRegex("'([^']*)'")]
    private static partial Regex QuotedWithin();

    [GeneratedRegex(@"^(/|~|\\\\|[A-Za-z]:[/\\])")]
    private static partial Regex RootedPath();

    private static void AppendAdapter(StringBuilder card, string adapterFolder, double weight)
    {
        var config = AdapterFolder.Open(adapterFolder).Config;
        _ = card.Append("\n## Adapter\n\n");
        if (weight != 1)
        {
            _ = card.Append(CultureInfo.InvariantCulture, $"- merged with weight {weight}\n");
        }

        foreach (var key in new[] { "peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "target_parameters" })
        {
            if (config[key] is { } value)
            {
                _ = card.Append(CultureInfo.InvariantCulture, $"- {key}: {value.ToJsonString()}\n");
            }
        }

        var run = Path.Combine(Path.GetFullPath(adapterFolder), "..", RunConfigName);
        if (File.Exists(run))
        {
            _ = card.Append("\n## Data and settings\n\nThe run's config, including defaults:\n\n```yaml\n").Append(WithoutPlaces(File.ReadAllText(run)).TrimEnd()).Append("\n```\n");
        }
    }
}
