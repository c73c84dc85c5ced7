using OpenWeights.Formats.Files;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>Writes a base model with an adapter merged into it: W + s B A in float32, rounded once to the dtype that is written.</summary>
public static class MergedExport
{
    /// <summary>Writes the merged model whole, or not at all. Weights that the adapter does not touch are the base's, byte for byte, unless another dtype is asked for.</summary>
    /// <param name="base">The base model, loaded.</param>
    /// <param name="adapter">The adapter on it.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">The dtype to write; the base's own for each tensor, where null.</param>
    /// <param name="maxShardBytes">The largest weight file.</param>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static void Write(LoadedModel @base, LoraAdapter adapter, string folder, ScalarType? dtype, long maxShardBytes)
    {
        ArgumentNullException.ThrowIfNull(@base);
        ArgumentNullException.ThrowIfNull(adapter);
        var updates = adapter.Layers.ToDictionary(static l => $"{l.Module}.weight");
        using var weights = @base.Folder.OpenWeights();
        AtomicFolder.Write(folder, work =>
        {
            _ = CheckpointWriter.Write(work, [.. weights.Tensors.Select(t => Tensor(weights, t, updates.GetValueOrDefault(t.Name), dtype))], maxShardBytes);
            ModelFolderWriter.WriteCompanions(@base.Folder, work, dtype ?? ModelLoader.StoredDType(weights));
        });
    }

    /// <summary>The largest difference between the logits of a merged folder and those of base and adapter, over a sample of tokens.</summary>
    /// <param name="base">The base model with its adapter on.</param>
    /// <param name="folder">The merged model.</param>
    /// <returns>The largest absolute difference, and the largest absolute logit to compare it with.</returns>
    public static (double Difference, double Largest) Verify(LoadedModel @base, string folder)
    {
        ArgumentNullException.ThrowIfNull(@base);
        using var merged = ModelLoader.Load(folder, @base.Model.DType, @base.Model.Device);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var tokens = Math.Min(64, @base.Model.Config.MaxPositions);
        var ids = new long[tokens];
        for (var i = 0; i < ids.Length; i++)
        {
            // Any tokens will do, as long as they are many different ones.
            ids[i] = (i * 7919L) % @base.Model.Config.VocabularySize;
        }

        var input = ModelInput.Rows(tensor(ids, [1, tokens], device: @base.Model.Device));
        var expected = @base.Model.Logits(@base.Model.call(input));
        var actual = merged.Model.Logits(merged.Model.call(input));
        return (actual.sub(expected).abs().max().ToDouble(), expected.abs().max().ToDouble());
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
