using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Whether an adapter's file does anything at all.</summary>
public static class AdapterEffect
{
    /// <summary>Why it does nothing.</summary>
    public const string Reason = "every update is zero (B, or lora_alpha, is 0), as before training";

    private const string Magnitude = ".lora_magnitude_vector";

    // How far norms that were computed in another order, or of a base in another dtype, may be from each other.
    private const double Rounding = 1e-3;

    /// <summary>Whether the adapter of a folder changes nothing; DoRA's magnitudes, which only the base can judge, count as a change.</summary>
    /// <param name="folder">The adapter's folder.</param>
    /// <exception cref="InvalidDataException">Its settings cannot be read.</exception>
    public static bool IsNone(Formats.HuggingFace.AdapterFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        using var weights = folder.OpenWeights();
        return IsNone(PeftConfig.Read(folder.Config, folder.FolderPath, out _), weights);
    }

    /// <summary>Whether the adapter of a folder changes nothing in its base, whose values say whether DoRA's magnitudes are its own.</summary>
    /// <param name="folder">The adapter's folder.</param>
    /// <param name="model">The base.</param>
    internal static bool IsNone(Formats.HuggingFace.AdapterFolder folder, CausalLanguageModel model)
    {
        using var weights = folder.OpenWeights();
        return IsNone(PeftConfig.Read(folder.Config, folder.FolderPath, out _), weights, model);
    }

    internal static bool IsNone(LoraConfig config, ITensorSource weights, CausalLanguageModel? model = null)
    {
        var updates = 0;
        var magnitudes = new List<string>();
        foreach (var entry in weights.Tensors)
        {
            var name = entry.Name;
            if (name.EndsWith(Magnitude, StringComparison.Ordinal))
            {
                magnitudes.Add(name);
                continue;
            }

            if (name.EndsWith(".base_layer.weight", StringComparison.Ordinal) || name.Contains(".lora_A.", StringComparison.Ordinal) || name.EndsWith(".lora_embedding_B", StringComparison.Ordinal))
            {
                continue;
            }

            // Whatever else there is (whole weights, biases) has an effect of its own.
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

        return updates > 0 && (magnitudes.Count == 0 || (model is { IsMeta: false } && magnitudes.TrueForAll(m => IsOfBase(model, weights, m))));
    }

    // Where B is zero, a magnitude is what the norm of the base's own row is, but for rounding.
    private static bool IsOfBase(CausalLanguageModel model, ITensorSource weights, string name)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var module = name[..^Magnitude.Length];
        module = module.StartsWith(PeftFolder.Prefix, StringComparison.Ordinal) ? module[PeftFolder.Prefix.Length..] : module;
        if (model.AdaptableModules.FirstOrDefault(m => m.Name == module).Module is not LinearLayer layer)
        {
            return false;
        }

        using Scalar none = 0;
        var norms = LoraLayer.RowNorms(layer, zeros([1, layer.InFeatures], float32, model.Device), zeros([layer.OutFeatures, 1], float32, model.Device), none);
        return TensorFiles.Read(weights, name).to(float32).to(model.Device).sub(norms).abs().le(norms.mul(Rounding)).all().ToBoolean();
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
