using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Detects checkpoints with different embedding and output head although their config ties them.</summary>
internal static class HeadTie
{
    private const int BytesAtOnce = 1 << 20;

    /// <summary>Warning about such a checkpoint.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="names">Names of the model's modules.</param>
    internal static string Warning(CheckpointWeights weights, DecoderNames names)
    {
        var (head, embedding) = (weights.PiecesOf(names.HeadWeight)[0].Stored, weights.PiecesOf(names.EmbeddingWeight)[0].Stored);
        return $"{head} differs from {embedding} although tie_word_embeddings is true; the file's {head} is used, as in transformers 5.";
    }

    /// <summary>Whether a checkpoint has both, with different values.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="names">Names of the model's modules.</param>
    internal static bool IsBroken(ITensorSource weights, DecoderNames names) => IsBroken(weights, names.EmbeddingWeight, names.HeadWeight);

    /// <summary>Whether a file has two tensors, with different values.</summary>
    /// <param name="weights">The file.</param>
    /// <param name="one">The first tensor.</param>
    /// <param name="other">The second tensor.</param>
    internal static bool IsBroken(ITensorSource weights, string one, string other)
    {
        if (!weights.TryGetTensor(other, out var head) || !weights.TryGetTensor(one, out var embedding))
        {
            return false;
        }

        if (head.DType == embedding.DType && head.Shape.SequenceEqual(embedding.Shape))
        {
            return !AreSame(weights, one, other, head.ByteLength);
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return !head.Shape.SequenceEqual(embedding.Shape)
            || !TensorFiles.Read(weights, other, float32).eq(TensorFiles.Read(weights, one, float32)).all().item<bool>();
    }

    /// <summary>Whether a model has both although its folder's config ties them.</summary>
    /// <param name="loaded">The model.</param>
    internal static bool WasBroken(LoadedModel loaded) => loaded.Model.Config is { TiedEmbeddings: false, Labels: null } && ModelLoader.ReadConfig(loaded.Folder).TiedEmbeddings;

    private static bool AreSame(ITensorSource weights, string one, string other, long length)
    {
        var (first, second) = (new byte[BytesAtOnce], new byte[BytesAtOnce]);
        for (var at = 0L; at < length; at += first.Length)
        {
            var count = (int)Math.Min(first.Length, length - at);
            weights.CopyTo(one, at, first.AsSpan(0, count));
            weights.CopyTo(other, at, second.AsSpan(0, count));
            if (!first.AsSpan(0, count).SequenceEqual(second.AsSpan(0, count)))
            {
                return false;
            }
        }

        return true;
    }
}
