using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>
/// Writes a base model with adapters merged into it: in float32, rounded once to the dtype that is written. Where the base is held
/// quantised, its quantised values are merged into, since they are what the adapters were trained on; else the checkpoint's are, a
/// tensor at a time, so that the base may be meta weights (<see cref="ModelLoader.LoadMeta"/>).
/// </summary>
public static class MergedExport
{
    /// <summary>Writes the merged model whole, or not at all. Weights that the adapter does not touch are the base's, byte for byte, unless another dtype is asked for.</summary>
    /// <param name="base">The base model.</param>
    /// <param name="adapters">The adapters on it, and how much of each is merged.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">The dtype to write; the base's own for each tensor, where null.</param>
    /// <param name="maxShardBytes">The largest weight file.</param>
    /// <param name="card">The model's card (README.md); null for none.</param>
    /// <returns>Whether embedding and head, one weight in the base, became two, and the config says so (tie_word_embeddings).</returns>
    /// <exception cref="InvalidDataException">An adapter trained a bias for a layer that has none.</exception>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static bool Write(LoadedModel @base, CombinedAdapter adapters, string folder, ScalarType? dtype, long maxShardBytes, string? card = null)
    {
        ArgumentNullException.ThrowIfNull(@base);
        ArgumentNullException.ThrowIfNull(adapters);
        using var weights = @base.Folder.OpenWeights();
        var plan = new MergePlan(weights, @base.Model.Config.TiedEmbeddings, adapters, @base.Model);
        Write(@base.Folder, weights, plan, plan.Unties || HeadTie.WasBroken(@base), (EndTokens.OfTurn(@base), @base.ChatTemplate), folder, dtype, maxShardBytes, card, QuantizedAs(@base.Model));
        return plan.Unties;
    }

    /// <summary>As the other, with one adapter.</summary>
    /// <param name="base">The base model.</param>
    /// <param name="adapter">The adapter on it.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">The dtype to write; the base's own for each tensor, where null.</param>
    /// <param name="maxShardBytes">The largest weight file.</param>
    public static bool Write(LoadedModel @base, LoraAdapter adapter, string folder, ScalarType? dtype, long maxShardBytes)
    {
        using var one = new CombinedAdapter([(adapter, 1)]);
        return Write(@base, one, folder, dtype, maxShardBytes);
    }

    /// <summary>Writes a model as it is, of whatever family: with another dtype, or other weight files.</summary>
    /// <param name="base">The model.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">The dtype to write; the base's own for each tensor, where null.</param>
    /// <param name="maxShardBytes">The largest weight file.</param>
    /// <param name="card">The model's card (README.md); null for none.</param>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static void Write(ModelFolder @base, string folder, ScalarType? dtype, long maxShardBytes, string? card = null)
    {
        ArgumentNullException.ThrowIfNull(@base);
        using var weights = @base.OpenWeights();
        using var none = new CombinedAdapter([]);
        Write(@base, weights, new MergePlan(weights, tied: false, none, null), HeadTie.IsBroken(weights), (null, null), folder, dtype, maxShardBytes, card);
    }

    /// <summary>How far the logits of a written model are from those of base and adapters, over a sample of tokens.</summary>
    /// <param name="base">The base model with its adapters on.</param>
    /// <param name="folder">The written model.</param>
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

    private static void Write(ModelFolder @base, CheckpointWeights weights, MergePlan plan, bool unties, (int? TurnEnd, string? Template) chat, string folder, ScalarType? dtype, long maxShardBytes, string? card, string? quantizedAs = null) =>
        AtomicFolder.Write(folder, work =>
        {
            var metadata = new Dictionary<string, string> { ["format"] = "pt" };
            if ((quantizedAs ?? (weights.HoldsQuantizedValues ? "yes" : null)) is { } kind)
            {
                metadata[CheckpointWeights.QuantizedValuesKey] = kind;
            }

            _ = CheckpointWriter.Write(work, [.. plan.Tensors.Select(t => Tensor(weights, plan, t.Name, t.Source, dtype))], maxShardBytes, metadata: metadata);
            ModelFolderWriter.WriteCompanions(@base, work, dtype ?? ModelLoader.StoredDType(weights), unties, chat.TurnEnd, chat.Template);
            if (card is not null)
            {
                AtomicFile.WriteText(Path.Combine(work, ModelCard.Name), card);
            }
        });

    // How the values that are written were quantised before; null where they were not.
    private static string? QuantizedAs(CausalLanguageModel model) =>
        model.LinearLayers.Select(static l => l.Layer.Quantized).FirstOrDefault(static q => q is not null) is { } weight ? (weight is Nf4Weight ? "nf4" : "int8") : null;

    private static TensorToWrite Tensor(CheckpointWeights weights, MergePlan plan, string name, TensorEntry source, ScalarType? dtype)
    {
        var stored = TensorFiles.ToTorch(source);
        var written = dtype is { } wanted && stored is ScalarType.Float16 or ScalarType.BFloat16 or ScalarType.Float32 ? wanted : stored;
        return plan.IsAsStored(name) && written == stored && name == source.Name
            ? TensorToWrite.FromSource(weights, name)
            : TensorFiles.ToWrite(name, written, source.Shape, () => plan.Values(name, source));
    }
}
