using System.IO.Enumeration;

namespace OpenWeights.Hub;

/// <summary>Chooses files of a repository by patterns with * and ?, as huggingface_hub's allow and ignore patterns do; * also matches slashes.</summary>
/// <param name="Include">A file must match one of these. Null: the files that loading a model needs.</param>
/// <param name="Exclude">A file must match none of these.</param>
public sealed record HubFilter(IReadOnlyList<string>? Include, IReadOnlyList<string> Exclude)
{
    // Settings, safetensors, tokenizers, templates, licences, the card: not the same weights again in other formats.
    private static readonly string[] ModelFiles =
        ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.model.v*", "README.md", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*"];

    private static readonly string[] NotModelFiles = ["original/*", "onnx/*", "openvino/*", "consolidated*", "*.gguf", "*/*.safetensors"];

    /// <summary>The files that loading a model needs: settings, safetensors, tokenizer, templates, licence.</summary>
    public static HubFilter Model { get; } = new(null, []);

    /// <summary>A model's settings, tokenizer and template, without its weights.</summary>
    public static HubFilter Settings { get; } = new(
        ["*.json", "*.jinja", "*.model", "*.tiktoken", "*.model.v*", "merges.txt", "vocab.txt"], ["*/*", "*.safetensors.index.json"]);

    /// <summary>Whether a file is wanted.</summary>
    /// <param name="path">Its path in the repository.</param>
    public bool Takes(string path)
    {
        var included = Include is null ? Matches(ModelFiles, path) && !Matches(NotModelFiles, path) : Matches(Include, path);
        return included && !Matches(Exclude, path);
    }

    private static bool Matches(IEnumerable<string> patterns, string path) =>
        patterns.Any(pattern => FileSystemName.MatchesSimpleExpression(pattern.EndsWith('/') ? pattern + "*" : pattern, path, ignoreCase: false));
}
