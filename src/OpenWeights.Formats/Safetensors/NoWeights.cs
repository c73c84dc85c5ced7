namespace OpenWeights.Formats.Safetensors;

/// <summary>Says why a folder has no weights that can be opened, by what it has instead.</summary>
internal static class NoWeights
{
    private static readonly (string Pattern, string Reason)[] Known =
    [
        ("model-*-of-*.safetensors", $"has shards ({{0}}) but not their index {CheckpointNames.Index}; download the index"),
        ("pytorch_model*.bin",
            "has its weights only in PyTorch's own format ({0}); download the model's safetensors version or convert it to safetensors"),
        ("adapter_model.safetensors", "has an adapter ({0}) and no model; give the base model's folder, and this one as the adapter"),
        ("*.safetensors",
            $"has {{0}} but neither {CheckpointNames.Single} nor {CheckpointNames.Index}; download the files of the transformers version"),
        ("*.gguf", "has GGUF weights ({0}) and no safetensors; download the model's safetensors version"),
    ];

    /// <summary>The refusal for a folder without <c>model.safetensors</c> and without its index.</summary>
    public static FileNotFoundException In(string folder)
    {
        foreach (var (pattern, reason) in Known)
        {
            if (Directory.EnumerateFiles(folder, pattern).Order(StringComparer.Ordinal).FirstOrDefault() is { } found)
            {
                return Refusal(folder, reason.Replace("{0}", Path.GetFileName(found), StringComparison.Ordinal));
            }
        }

        return Refusal(folder, $"has no weights: neither {CheckpointNames.Single} nor {CheckpointNames.Index} is there; download them");
    }

    private static FileNotFoundException Refusal(string folder, string reason) =>
        new($"{folder} {reason}", Path.Combine(folder, CheckpointNames.Single));
}
