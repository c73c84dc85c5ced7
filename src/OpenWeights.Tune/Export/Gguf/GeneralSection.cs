using System.Globalization;
using System.Text.RegularExpressions;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>
/// Writes the general.* keys that describe a file and its origin, as llama.cpp's converter does
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/metadata.py"/>).
/// </summary>
internal static partial class GeneralSection
{
    private static readonly string[] s_phi3Tokens = ["</s>", "<unk>", "<s>", "<|endoftext|>"];
    private const string Hub = "https://huggingface.co/";

    /// <summary>Writes the keys of a model.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="isMerged">Whether adapters are merged in, so that the base model is the source rather than the model itself.</param>
    /// <param name="parameters">Number of parameters.</param>
    /// <param name="tokens">Texts of the tokens.</param>
    /// <param name="metadata">Destination.</param>
    internal static void WriteModel(ModelFolder folder, bool isMerged, long parameters, IReadOnlyList<string> tokens, GgufMetadata metadata)
    {
        var card = CardSettings.Read(folder.FolderPath);
        var source = SourceOf(folder);
        metadata.Add("general.name", Harmless(card.Text("model_name") is { } named ? Title(named) : source.Name ?? "", tokens));
        AddText(metadata, "general.organization", source.Organization);
        metadata.Add("general.size_label", SizeLabel(parameters));
        AddText(metadata, "general.license", card.Text("license"));
        AddText(metadata, "general.license.name", card.Text("license_name"));
        AddText(metadata, "general.license.link", card.Text("license_link"));
        WriteSources(metadata, "base_model", isMerged ? [source] : [.. card.List("base_model").Select(SourceOf)]);
        WriteSources(metadata, "dataset", [.. card.List("datasets").Select(SourceOf)]);
        AddTexts(metadata, "general.tags", [.. card.List("tags"), .. card.List("pipeline_tag")]);
        AddTexts(metadata, "general.languages", card.List("language"));
        WriteSampling(folder, metadata);
    }

    /// <summary>Writes the keys of an adapter.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="metadata">Destination.</param>
    internal static void WriteAdapter(ModelFolder folder, GgufMetadata metadata)
    {
        metadata.Add("general.name", "LoRA adapter");
        AddText(metadata, "general.license", CardSettings.Read(folder.FolderPath).Text("license"));
        WriteSources(metadata, "base_model", [SourceOf(folder)]);
    }

    // llama.cpp looks for Phi-3's special tokens in models of this name, and refuses to load those without them.
    private static string Harmless(string name, IReadOnlyList<string> tokens) => s_phi3Tokens.All(tokens.Contains)
        ? name
        : Phi3Pattern().Replace(name, "Phi_3");

    // The authors' sampling settings, which llama.cpp uses by default.
    private static void WriteSampling(ModelFolder folder, GgufMetadata metadata)
    {
        var settings = new ConfigJson(folder.GenerationConfig ?? [], Path.Combine(folder.FolderPath, "generation_config.json"));
        foreach (var (key, name) in new[] { ("top_p", "top_p"), ("min_p", "min_p"), ("temperature", "temp") })
        {
            if (settings.Has(key))
            {
                metadata.Add($"general.sampling.{name}", (float)settings.Number(key));
            }
        }

        if (settings.Has("top_k"))
        {
            metadata.Add("general.sampling.top_k", (int)settings.Number("top_k"));
        }
    }

    private static void WriteSources(GgufMetadata metadata, string kind, IReadOnlyList<Source> sources)
    {
        if (sources.Count == 0)
        {
            return;
        }

        metadata.Add($"general.{kind}.count", (uint)sources.Count);
        for (var i = 0; i < sources.Count; i++)
        {
            AddText(metadata, $"general.{kind}.{i}.name", sources[i].Name);
            AddText(metadata, $"general.{kind}.{i}.organization", sources[i].Organization);
            AddText(metadata, $"general.{kind}.{i}.repo_url", sources[i].Address);
        }
    }

    // A GGUF file contains its name; without one, the file name is used.
    private static Source SourceOf(ModelFolder folder)
    {
        if (GgufFolder.Target(folder.FolderPath) is not { } path)
        {
            return SourceOf(ModelPath.NameOf(folder.FolderPath));
        }

        using var file = GgufFile.Open(path);
        return new Source(file.Metadata.Text("general.name") ?? Title(Path.GetFileNameWithoutExtension(path)), file.Metadata.Text("general.organization"), null);
    }

    // A URL, ORG/NAME on the Hub, or the last part of a path.
    private static Source SourceOf(string text)
    {
        var isAddress = text.Contains("://", StringComparison.Ordinal);
        var onHub = !isAddress ? text : text.StartsWith(Hub, StringComparison.Ordinal) ? text[Hub.Length..] : null;
        var (organization, name) = onHub is null ? (null, null) : Split(onHub);
        return new Source(name is null ? null : Title(name), organization is null ? null : Title(organization), isAddress ? text : organization is null ? null : $"{Hub}{text}");
    }

    private static void AddText(GgufMetadata metadata, string key, string? text)
    {
        if (text is not null)
        {
            metadata.Add(key, text);
        }
    }

    private static void AddTexts(GgufMetadata metadata, string key, IReadOnlyList<string> texts)
    {
        if (texts.Count > 0)
        {
            metadata.Add(key, texts.ToArray());
        }
    }

    // ORG/NAME on the Hub, or the last part of a path.
    private static (string? Organization, string Name) Split(string model) => HubNamePattern().IsMatch(model) && !Path.Exists(model)
        ? (model[..model.IndexOf('/', StringComparison.Ordinal)], model[(model.IndexOf('/', StringComparison.Ordinal) + 1)..])
        : (null, Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(model))));

    /// <summary>A name as words, each capitalized except versions and words that contain capitals.</summary>
    private static string Title(string name) => string.Join(' ', name.Replace('-', ' ').Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(static word =>
        word.Any(char.IsUpper) || !word.Any(char.IsLower) || VersionPattern().IsMatch(word) ? word : CultureInfo.InvariantCulture.TextInfo.ToTitleCase(word)));

    /// <summary>A number of parameters with two or more digits, such as 135M.</summary>
    internal static string SizeLabel(long parameters)
    {
        var (unit, letter) = parameters switch
        {
            > 1_000_000_000_000 => (1e12, "T"),
            > 1_000_000_000 => (1e9, "B"),
            > 1_000_000 => (1e6, "M"),
            _ => (1e3, "K"),
        };
        var scaled = parameters / unit;
        var digits = Math.Round(scaled).ToString(CultureInfo.InvariantCulture).TrimStart('0').Length;
        return scaled.ToString(digits >= 2 ? "F0" : $"F{2 - digits}", CultureInfo.InvariantCulture) + letter;
    }

    private sealed record Source(string? Name, string? Organization, string? Address);

    [GeneratedRegex("phi-?3", RegexOptions.IgnoreCase)]
    private static partial Regex Phi3Pattern();

    [GeneratedRegex(@"^[\w][\w.-]*/[\w][\w.-]*$")]
    private static partial Regex HubNamePattern();

    [GeneratedRegex(@"^(v\d+(\.\d+)*|\d.*)$")]
    private static partial Regex VersionPattern();
}
