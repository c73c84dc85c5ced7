using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Quantized;
using OpenWeights.Formats.Safetensors;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Quantization;

/// <summary>Takes the weights that a checkpoint holds quantised as they are.</summary>
internal static class PackedReading
{
    /// <summary>A matrix, [out, in]; null if it, or a piece of it, is stored in full or in another order.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="name">Name of the weight in the model.</param>
    /// <param name="device">The device.</param>
    internal static QuantizedWeight? Matrix(CheckpointWeights weights, string name, Device device) =>
        weights.TryGetTensor(name, out _) && Pieces(weights, weights.PiecesOf(name)) is { } pieces ? Joined(pieces, device) : null;

    /// <summary>The matrices of a stack, each [out, in]; null as in <see cref="Matrix"/>.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="name">Name of the stack in the model.</param>
    /// <param name="count">Number of matrices.</param>
    /// <param name="isTransposed">Whether the model's stack is [count, in, out].</param>
    /// <param name="device">The device.</param>
    internal static IReadOnlyList<QuantizedWeight>? Stack(CheckpointWeights weights, string name, long count, bool isTransposed, Device device)
    {
        if (!weights.TryGetTensor(name, out _))
        {
            return null;
        }

        var stored = weights.PiecesOf(name);
        if (stored is [var only] && weights.PackedOf(only.Stored) is { Shape.Count: 3 } stack)
        {
            return stack.IsTransposed == isTransposed && stack.Count == count ? [.. Enumerable.Range(0, stack.Count).Select(i => new PackedWeight(stack.Read(i), device))] : null;
        }

        return isTransposed || stored.Count % count != 0 || Pieces(weights, stored) is not { } pieces ? null
            : [.. pieces.Chunk((int)(pieces.Count / count)).Select(own => Joined(own, device))];
    }

    /// <summary>A matrix of a GGUF file, [out, in], on the CPU; null if it, or a piece of it, is stored in full or in another order.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="name">Name of the weight in the model.</param>
    internal static QuantizedWeight? Blocks(CheckpointWeights weights, string name) =>
        weights.TryGetTensor(name, out var entry) && entry.Shape.Count == 2 && BlockPieces(weights, weights.PiecesOf(name)) is { } pieces ? Joined(pieces) : null;

    /// <summary>The matrices of a stack of a GGUF file, each [out, in], on the CPU; null as in <see cref="Blocks"/>.</summary>
    /// <param name="weights">The checkpoint.</param>
    /// <param name="name">Name of the stack in the model.</param>
    /// <param name="count">Number of matrices.</param>
    internal static IReadOnlyList<QuantizedWeight>? BlockStack(CheckpointWeights weights, string name, long count) =>
        weights.TryGetTensor(name, out _) && weights.PiecesOf(name) is var stored && stored.Count % count == 0 && BlockPieces(weights, stored) is { } pieces
            ? [.. pieces.Chunk((int)(pieces.Count / count)).Select(Joined)]
            : null;

    /// <summary>Bytes of a tensor of the model as it is stored; null if it, or a piece of it, is stored in full.</summary>
    internal static long? Bytes(CheckpointWeights weights, string name)
    {
        if (!weights.TryGetTensor(name, out _))
        {
            return null;
        }

        var pieces = weights.PiecesOf(name).Select(piece => weights.PackedOf(piece.Stored)).ToList();
        return pieces.TrueForAll(static piece => piece is not null) ? pieces.Sum(static piece => piece!.ByteLength) : null;
    }

    // Whole matrices that lie one below the other.
    private static List<PackedTensor>? Pieces(CheckpointWeights weights, IReadOnlyList<TensorPiece> stored)
    {
        var pieces = stored.Select(piece => weights.PackedOf(piece.Stored)).OfType<PackedTensor>().ToList();
        return pieces.Count == stored.Count && pieces.TrueForAll(piece => piece is { Shape.Count: 2, IsTransposed: false } && piece.InFeatures == pieces[0].InFeatures) ? pieces : null;
    }

    private static List<GgufMatrix>? BlockPieces(CheckpointWeights weights, IReadOnlyList<TensorPiece> stored)
    {
        var pieces = stored.Select(piece => weights.BlocksOf(piece.Stored) is { } matrix && piece is { StoredFirst: 0 } && piece.Count == matrix.OutFeatures * matrix.InFeatures ? matrix : null).OfType<GgufMatrix>().ToList();
        return pieces.Count == stored.Count && pieces.TrueForAll(piece => piece.InFeatures == pieces[0].InFeatures && GgufWeight.Serves(piece.Type)) ? pieces : null;
    }

    private static QuantizedWeight Joined(IReadOnlyList<GgufMatrix> pieces) =>
        pieces is [var only] ? new GgufWeight(only) : new JoinedWeight([.. pieces.Select(static piece => new GgufWeight(piece))]);

    private static QuantizedWeight Joined(IReadOnlyList<PackedTensor> pieces, Device device)
    {
        List<QuantizedWeight> weights = [.. pieces.Select(piece => new PackedWeight(piece.Read(0), device))];
        return weights is [var only] ? only : new JoinedWeight(weights);
    }
}
