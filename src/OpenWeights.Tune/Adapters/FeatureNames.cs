using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Names in the files of adapters for a model without its head (transformers' AutoModel, which sentence-transformers loads): those of a language
/// model without the name of its stack, layers.0 for model.layers.0.
/// </summary>
internal static class FeatureNames
{
    /// <summary>PEFT's task_type of such an adapter.</summary>
    internal const string TaskType = "FEATURE_EXTRACTION";

    /// <summary>The name in the file.</summary>
    /// <param name="name">The name with PEFT's prefix, for a language model.</param>
    /// <param name="names">Names of the base model's modules.</param>
    internal static string Short(string name, DecoderNames names) =>
        name.StartsWith(Stack(names), StringComparison.Ordinal) ? PeftFolder.Prefix + name[Stack(names).Length..] : name;

    /// <summary>The name for a language model.</summary>
    /// <param name="name">The name in the file; some programs write the long name there too.</param>
    /// <param name="names">Names of the base model's modules.</param>
    internal static string Long(string name, DecoderNames names) =>
        name.StartsWith(PeftFolder.Prefix, StringComparison.Ordinal) && !name.StartsWith(Stack(names), StringComparison.Ordinal) && !name.StartsWith($"{PeftFolder.Prefix}{names.Head}.", StringComparison.Ordinal)
            ? Stack(names) + name[PeftFolder.Prefix.Length..] : name;

    private static string Stack(DecoderNames names) => $"{PeftFolder.Prefix}{names.Stack}.";
}
