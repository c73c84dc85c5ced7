using OpenWeights.Formats.Files;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>
/// Writes a base model with adapters merged into it: in float32, rounded once to the dtype that is written. Where the base is held
/// quantised, its quantised values are merged into, since they are what the adapters were trained on.
/// </summary>
public static class MergedExport
{
    /// <summary>Writes the merged model whole, or not at all. Weights that the adapter does not touch are the base's, byte for byte, unless another dtype is asked for.</summary>
    /// <param name="base">The base model, loaded.</param>
    /// <param name="adapters">The adapters on it, and how much of each is merged.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">The dtype to write; the base's own for each tensor, where null.</param>
    /// <param name="maxShardBytes">The largest weight file.</param>
    /// <returns>Whether embedding and head, one weight in the base, became two, and the config says so (tie_word_embeddings).</returns>
    /// <exception cref="InvalidDataException">An adapter trained a bias for a layer that has none.</exception>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static bool Write(LoadedModel @base, AdapterMix adapters, string folder, ScalarType? dtype, long maxShardBytes)
    {
        ArgumentNullException.ThrowIfNull(@base);
        ArgumentNullException.ThrowIfNull(adapters);
        using var weights = @base.Folder.OpenWeights();
        var plan = new MergePlan(@base.Model, weights, adapters, dtype);
        AtomicFolder.Write(folder, work =>
        {
            _ = CheckpointWriter.Write(work, plan.Tensors(), maxShardBytes);
            ModelFolderWriter.WriteCompanions(@base.Folder, work, dtype ?? ModelLoader.StoredDType(weights), plan.Unties ? ("tie_word_embeddings", false) : null);
        });
        return plan.Unties;
    }

    /// <summary>As the other, with one adapter.</summary>
    /// <param name="base">The base model, loaded.</param>
    /// <param name="adapter">The adapter on it.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">The dtype to write; the base's own for each tensor, where null.</param>
    /// <param name="maxShardBytes">The largest weight file.</param>
    public static bool Write(LoadedModel @base, LoraAdapter adapter, string folder, ScalarType? dtype, long maxShardBytes)
    {
        using var one = new AdapterMix([(adapter, 1)]);
        return Write(@base, one, folder, dtype, maxShardBytes);
    }

    /// <summary>How far the logits of a merged folder are from those of base and adapters, over a sample of tokens.</summary>
    /// <param name="base">The base model with its adapters on.</param>
    /// <param name="folder">The merged model.</param>
    public static MergeDifference Verify(LoadedModel @base, string folder)
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
        return MergeDifference.Of(expected, actual);
    }
}
