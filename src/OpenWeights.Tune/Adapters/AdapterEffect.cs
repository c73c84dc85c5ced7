using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Detects adapters that do not change their base model.</summary>
internal static class AdapterEffect
{
    /// <summary>Why an adapter has no effect.</summary>
    public const string Reason = "all updates are zero (of a LoRA B or lora_alpha), as before training";

    private const string Magnitude = ".lora_magnitude_vector";

    // Tolerance for norms computed in another order, or on a base model in another dtype.
    private const double Rounding = 1e-3;

    /// <summary>
    /// Whether the adapter in a folder has no effect; DoRA magnitudes, which can only be judged with the base model, count as an effect.
    /// </summary>
    /// <param name="folder">The adapter's folder.</param>
    /// <exception cref="InvalidDataException">The adapter's config cannot be read.</exception>
    public static bool IsNone(Formats.HuggingFace.AdapterFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        using var weights = folder.OpenWeights();
        return IsNone(folder, weights, null);
    }

    /// <summary>
    /// Whether the adapter in a folder has no effect on a base model; DoRA magnitudes are compared with the norms of the base's weights.
    /// </summary>
    /// <param name="folder">The adapter's folder.</param>
    /// <param name="model">The base model.</param>
    internal static bool IsNone(Formats.HuggingFace.AdapterFolder folder, CausalLanguageModel model)
    {
        using var weights = PeftFolder.Weights(folder, model.Config.Names);
        return IsNone(folder, weights, model);
    }

    private static bool IsNone(Formats.HuggingFace.AdapterFolder folder, ITensorSource weights, CausalLanguageModel? model)
    {
        var kind = AdapterKinds.Of(folder.Config, folder.FolderPath);
        return kind.HasNoEffect(kind.Read(folder.Config, folder.FolderPath, out _), weights, model);
    }

    /// <summary>Whether the file of a LoRA adapter has no effect.</summary>
    internal static bool IsNone(LoraConfig config, ITensorSource weights, CausalLanguageModel? model = null)
    {
        if (config.Kasa is not null || config.Init == LoraInit.Loftq)
        {
            // These change the base's weight itself.
            return false;
        }

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

            // All other tensors (fully trained weights, biases) have an effect.
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

    // With B zero, an untrained magnitude equals the norm of the base's row, up to rounding.
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

        model.Stack.LayerWeights?.Show(module);
        using Scalar none = 0;
        var device = model.DeviceOf(module);
        var norms = LoraLayer.RowNorms(layer, zeros([1, layer.InFeatures], float32, device), zeros([layer.OutFeatures, 1], float32, device), none);
        return TensorFiles.Read(weights, name).to(float32).to(device).sub(norms).abs().le(norms.mul(Rounding)).all().ToBoolean();
    }

    private static bool IsOff(LoraConfig config, string module) =>
        config.ScaleOf(module.StartsWith(PeftFolder.Prefix, StringComparison.Ordinal) ? module[PeftFolder.Prefix.Length..] : module) == 0;

    // A zero of either sign consists of zero bits apart from the sign bit, in every floating-point type.
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
