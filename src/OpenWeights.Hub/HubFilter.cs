using System.IO.Enumeration;

namespace OpenWeights.Hub;

/// <summary>Which files of a repository are wanted, by patterns with * and ?, as huggingface_hub's allow and ignore patterns: * takes slashes too.</summary>
/// <param name="Include">A file must match one of these; null for what a model needs here.</param>
/// <param name="Exclude">And none of these.</param>
public sealed record HubFilter(IReadOnlyList<string>? Include, IReadOnlyList<string> Exclude)
{
    // Settings, safetensors, tokenizers, templates, licences, the card: not the same weights again in other formats.
    private static readonly string[] ModelFiles =
        ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.model.v*", "README.md", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*"];

    private static readonly string[] NotModelFiles = ["original/*", "onnx/*", "openvino/*", "consolidated*", "*.gguf", "*/*.safetensors"];

    /// <summary>What a model needs here.</summary>
    public static HubFilter Model { get; } = new(null, []);

    /// <summary>What a model is told by without its weights: settings, tokenizer and template.</summary>
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
