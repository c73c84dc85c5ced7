using System.Text.Json.Nodes;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Export.Packed;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>
/// Exports a base model with merged adapters: merged in float32, rounded once to the output dtype. If the base model is quantized, its
/// dequantized values are used, because the adapters were trained on them; otherwise those of the checkpoint, one tensor at a time, so that
/// the base
/// model may be on the meta device (<see cref="ModelLoader.LoadMeta"/>).
/// </summary>
internal static class MergedExport
{
    /// <summary>
    /// Writes the complete merged model, or nothing on failure. Tensors that no adapter changes are copied byte for byte, unless another
    /// dtype is requested.
    /// </summary>
    /// <param name="base">The base model.</param>
    /// <param name="adapters">The adapters, with their weights.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">Output dtype; null keeps the base model's dtype of each tensor.</param>
    /// <param name="maxShardBytes">Maximum size of a weight file, in bytes.</param>
    /// <param name="card">The model card (README.md); null for none.</param>
    /// <param name="quantization">How the linear layers are written (<see cref="WeightPackers.Names"/>); null for in full.</param>
    /// <returns>Whether embedding and output head, tied in the base model, were untied (tie_word_embeddings is then false in the
    /// config).</returns>
    /// <exception cref="InvalidDataException">An adapter trained a bias for a layer that has none.</exception>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static bool Write(LoadedModel @base, CombinedAdapter adapters, string folder, ScalarType? dtype, long maxShardBytes, string? card = null, string? quantization = null)
    {
        ArgumentNullException.ThrowIfNull(@base);
        ArgumentNullException.ThrowIfNull(adapters);
        adapters.RequireNoPrompt("merged");
        using var stored = @base.Folder.OpenWeights();
        using var replicated = ReplicatedLayers.Of(@base.Folder, stored, adapters);
        var weights = replicated?.Weights ?? stored;
        var plan = new MergePlan(weights, @base.Model.Config.Names, @base.Model.Config.TiedEmbeddings, adapters, @base.Model, @base.Model.Config.Labels);
        var packing = WeightPackers.Of(quantization) is { } packer ? new PackPlan(packer, weights, @base.Model, dtype ?? ModelLoader.StoredDType(weights)) : null;
        Write(@base.Folder, weights, plan, plan.Unties || HeadTie.WasBroken(@base), (EndTokens.OfTurn(@base), @base.ChatTemplate), folder, dtype, maxShardBytes, card, QuantizedAs(@base.Model), packing, @base.Model.Config.Labels, @base.Embedding, replicated?.Config);
        return plan.Unties;
    }

    /// <summary>Writes the complete merged model with one adapter.</summary>
    /// <param name="base">The base model.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">Output dtype; null keeps the base model's dtype of each tensor.</param>
    /// <param name="maxShardBytes">Maximum size of a weight file, in bytes.</param>
    public static bool Write(LoadedModel @base, PeftAdapter adapter, string folder, ScalarType? dtype, long maxShardBytes)
    {
        using var one = new CombinedAdapter([(adapter, 1)]);
        return Write(@base, one, folder, dtype, maxShardBytes);
    }

    /// <summary>Writes a model of any family without adapters: in another dtype, or with another file size.</summary>
    /// <param name="base">The model.</param>
    /// <param name="folder">The folder, which must not exist.</param>
    /// <param name="dtype">Output dtype; null keeps the base model's dtype of each tensor.</param>
    /// <param name="maxShardBytes">Maximum size of a weight file, in bytes.</param>
    /// <param name="card">The model card (README.md); null for none.</param>
    /// <exception cref="IOException">The folder exists, or cannot be written.</exception>
    public static void Write(ModelFolder @base, string folder, ScalarType? dtype, long maxShardBytes, string? card = null)
    {
        ArgumentNullException.ThrowIfNull(@base);
        using var weights = @base.OpenWeights();
        using var none = new CombinedAdapter([]);
        var names = ModelLoader.Names(@base);
        var plan = new MergePlan(weights, names, tied: false, none, null);
        Write(@base, weights, plan, HeadTie.IsBroken(weights, names), (null, null), folder, dtype, maxShardBytes, card, embedding: EmbeddingFiles.Find(@base.FolderPath));
    }

    /// <summary>Compares the logits of a written model with those of base model and adapters, on sample tokens.</summary>
    /// <param name="base">The base model with its adapters active.</param>
    /// <param name="folder">The written model.</param>
    public static MergeDifference Verify(LoadedModel @base, string folder)
    {
        ArgumentNullException.ThrowIfNull(@base);
        using var merged = ModelLoader.LoadOnto(folder, @base.Model.DType, @base.Model.Devices);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var tokens = Math.Min(64, @base.Model.Config.MaxPositions);
        var ids = new long[tokens];
        for (var i = 0; i < ids.Length; i++)
        {
            // Any tokens serve, as long as they are varied.
            ids[i] = (i * 7919L) % @base.Model.VocabularySize;
        }

        var input = ModelInput.Rows(tensor(ids, [1, tokens], device: @base.Model.Device));
        var expected = @base.Model.Logits(@base.Model.call(input));
        var actual = merged.Model.Logits(merged.Model.call(input));
        return MergeDifference.Of(expected, actual);
    }

    private static void Write(ModelFolder @base, CheckpointWeights weights, MergePlan plan, bool unties, (int? TurnEnd, string? Template) chat, string folder, ScalarType? dtype, long maxShardBytes, string? card, string? quantizedAs = null, PackPlan? packing = null, LabelHead? labels = null, EmbeddingSettings? embedding = null, JsonObject? config = null) =>
        AtomicFolder.Write(folder, work =>
        {
            var metadata = new Dictionary<string, string> { ["format"] = "pt" };
            if ((quantizedAs ?? weights.Quantization ?? (weights.HoldsQuantizedValues ? "yes" : null)) is { } kind)
            {
                metadata[CheckpointWeights.QuantizedValuesKey] = kind;
            }

            _ = CheckpointWriter.Write(work, [.. plan.ToWrite(entry => Written(weights, entry, dtype), packing is null ? null : packing.Pack)], maxShardBytes, metadata: metadata);
            ModelFolderWriter.WriteCompanions(@base, work, dtype ?? ModelLoader.StoredDType(weights), unties, chat.TurnEnd, chat.Template, plan.Vocabulary, packing?.Config, labels, embedding, config);
            if (card is not null)
            {
                AtomicFile.WriteText(Path.Combine(work, ModelCard.Name), card);
            }
        });

    // The source quantization of the written values; null for none.
    private static string? QuantizedAs(CausalLanguageModel model) =>
        model.Quantized.FirstOrDefault() switch
        {
            Nf4Weight => "nf4",
            Int8Weight => "int8",
            _ => null,
        };

    // What the checkpoint holds quantized has no type of its own.
    private static ScalarType? Written(CheckpointWeights weights, TensorEntry source, ScalarType? dtype) => source.DType is not (DType.F16 or DType.BF16 or DType.F32) ? null
        : dtype is null && source.IsQuantized && weights.Quantization is not null ? ModelLoader.StoredDType(weights)
        : dtype;
}
