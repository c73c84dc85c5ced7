using OpenWeights.Formats.Safetensors;

namespace OpenWeights.Tune.Adapters;

/// <summary>Whether an adapter's file does anything at all.</summary>
public static class AdapterEffect
{
    /// <summary>Why it does nothing.</summary>
    public const string Reason = "every update is zero (B, or lora_alpha, is 0), as before training";

    /// <summary>Whether the adapter of a folder changes nothing.</summary>
    /// <param name="folder">The adapter's folder.</param>
    /// <exception cref="InvalidDataException">Its settings cannot be read.</exception>
    public static bool IsNone(Formats.HuggingFace.AdapterFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        using var weights = folder.OpenWeights();
        return IsNone(PeftConfig.Read(folder.Config, folder.FolderPath, out _), weights);
    }

    internal static bool IsNone(LoraConfig config, ITensorSource weights)
    {
        var updates = 0;
        foreach (var entry in weights.Tensors)
        {
            var name = entry.Name;
            if (name.EndsWith(".base_layer.weight", StringComparison.Ordinal) || name.Contains(".lora_A.", StringComparison.Ordinal) || name.EndsWith(".lora_embedding_B", StringComparison.Ordinal))
            {
                continue;
            }

            // Whatever else there is (whole weights, biases, magnitudes) has an effect of its own.
            var module = name.EndsWith(".lora_B.weight", StringComparison.Ordinal) ? name[..^".lora_B.weight".Length]
                : name.EndsWith(".lora_embedding_A", StringComparison.Ordinal) ? name[..^".lora_embedding_A".Length]
                : null;
            var other = module is null ? null : name.EndsWith("_A", StringComparison.Ordinal) ? $"{module}.lora_embedding_B" : $"{module}.lora_A.weight";
            if (module is null || !(IsOff(config, module) || IsZero(weights, name) || IsZero(weights, other!)))
            {
                return false;
            }

            updates++;
        }

        return updates > 0;
    }

    private static bool IsOff(LoraConfig config, string module) =>
        config.ScaleOf(module.StartsWith(PeftFolder.Prefix, StringComparison.Ordinal) ? module[PeftFolder.Prefix.Length..] : module) == 0;

    // Zero, of either sign, is nothing but zeros and signs in every type of number.
    private static bool IsZero(ITensorSource weights, string name)
    {
        if (!weights.TryGetTensor(name, out var entry))
        {
            return false;
        }

        var size = Math.Max(1, entry.DType.BitSize() / 8);
        var bytes = weights.ReadBytes(name);
        for (var i = 0; i < bytes.Length; i++)
        {
            if ((bytes[i] & (i % size == size - 1 ? 0x7F : 0xFF)) != 0)
            {
                return false;
            }
        }

        return true;
    }
}
