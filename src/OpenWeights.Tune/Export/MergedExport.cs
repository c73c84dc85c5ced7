using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>Writes a base model with an adapter merged into it: W + s B A in float32, rounded once to the dtype that is written.</summary>
public static class MergedExport
{
    /// <summary>
    /// Writes the merged model whole, or not at all, a tensor at a time. Weights that the adapter does not touch are the base's, byte
    /// for byte, unless another dtype is asked for.
    /// </summary>
    /// <param name="base">The base model.</param>
    /// <param name="adapter">The adapter; null writes the base as it is.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">The dtype to write; the base's own for each tensor, where null.</param>
    /// <param name="maxShardBytes">The largest weight file.</param>
    /// <param name="card">The model's card (README.md); null for none.</param>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static void Write(ModelFolder @base, LoraAdapter? adapter, string folder, ScalarType? dtype, long maxShardBytes, string? card = null)
    {
        ArgumentNullException.ThrowIfNull(@base);
        var updates = adapter?.Layers.ToDictionary(static l => $"{l.Module}.weight") ?? [];
        using var weights = @base.OpenWeights();
        AtomicFolder.Write(folder, work =>
        {
            _ = CheckpointWriter.Write(work, [.. weights.Tensors.Select(t => Tensor(weights, t, updates.GetValueOrDefault(t.Name), dtype))], maxShardBytes);
            ModelFolderWriter.WriteCompanions(@base, work, dtype ?? ModelLoader.StoredDType(weights));
            if (card is not null)
            {
                AtomicFile.WriteText(Path.Combine(work, ModelCard.Name), card);
            }
        });
    }

    private static TensorToWrite Tensor(CheckpointWeights weights, TensorEntry entry, LoraLayer? update, ScalarType? dtype)
    {
        var stored = TensorFiles.ToTorch(entry);
        var written = dtype is { } wanted && stored is ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 ? wanted : stored;
        if (update is null && written == stored)
        {
            return TensorToWrite.FromSource(weights, entry.Name);
        }

        return TensorFiles.ToWrite(entry.Name, written, entry.Shape, () =>
        {
            var weight = TensorFiles.Read(weights, entry.Name, float32);
            return update is null ? weight : weight.Plus(update.Delta().cpu());
        });
    }
}
