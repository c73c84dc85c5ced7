using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>
/// The start of an adapter that was saved over its changed base, without path_initial_model_for_weight_conversion: PEFT's users save it beside, as the
/// folder initial. Decompositions of the weight alone can be computed again; others need this file.
/// </summary>
internal static class StartFile
{
    private const string Name = "initial";

    /// <summary>The start's tensors; null if the adapter has none, or it can be computed again.</summary>
    /// <param name="folder">Path of the adapter's folder.</param>
    /// <param name="config">Its settings.</param>
    /// <exception cref="InvalidDataException">The start is needed and not there.</exception>
    internal static SafetensorsFile? Find(string folder, LoraConfig config)
    {
        if (!LoraStarts.SubtractsStart(config.Init))
        {
            return null;
        }

        var places = new[] { Path.Combine(folder, Name), Path.Combine(folder, "..", Name) };
        if (Array.Find(places, static p => File.Exists(Path.Combine(p, AdapterFolder.ConfigName))) is { } place)
        {
            return AdapterFolder.Open(place).OpenWeights();
        }

        return config.Init == LoraInit.Olora || config is { Init: LoraInit.Pissa, PissaIterations: null } ? null : throw new InvalidDataException(
            $"{folder}: init_lora_weights: {LoraStarts.Name(config)} changed the base model in a way that cannot be computed again, and the adapter's start is not in {Name}/ beside it; in PEFT, save the adapter with path_initial_model_for_weight_conversion, which converts it to a plain LoRA.");
    }
}
