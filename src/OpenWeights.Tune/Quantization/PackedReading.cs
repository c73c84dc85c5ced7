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

    private static QuantizedWeight Joined(IReadOnlyList<PackedTensor> pieces, Device device)
    {
        List<QuantizedWeight> weights = [.. pieces.Select(piece => new PackedWeight(piece.Read(0), device))];
        return weights is [var only] ? only : new JoinedWeight(weights);
    }
}
