using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Embedding and output head of a checkpoint whose config says that they are one weight.</summary>
internal static class HeadTie
{
    private const string Embedding = "model.embed_tokens.weight";
    private const string Head = "lm_head.weight";
    private const int BytesAtOnce = 1 << 20;

    /// <summary>What whoever uses a checkpoint with two of them should know.</summary>
    internal const string Warning = "lm_head.weight is another weight than model.embed_tokens.weight, though tie_word_embeddings says that they are one; the head of the file is used, as transformers 5 does.";

    /// <summary>Whether a checkpoint holds both, and not with the same values.</summary>
    /// <param name="weights">The checkpoint.</param>
    internal static bool IsBroken(ITensorSource weights) => IsBroken(weights, Embedding, Head);

    /// <summary>Whether a file holds two tensors, and not with the same values.</summary>
    /// <param name="weights">The file.</param>
    /// <param name="one">A tensor.</param>
    /// <param name="other">The other.</param>
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

    /// <summary>Whether a model has two of them although its folder's config says one.</summary>
    /// <param name="loaded">The model.</param>
    internal static bool WasBroken(LoadedModel loaded) => !loaded.Model.Config.TiedEmbeddings && ModelLoader.ReadConfig(loaded.Folder).TiedEmbeddings;

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
