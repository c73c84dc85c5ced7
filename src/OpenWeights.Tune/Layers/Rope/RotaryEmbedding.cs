using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Rope;

/// <summary>Rotates queries and keys by their positions (Su et al., 2021), in halves as Hugging Face checkpoints lie.</summary>
public sealed class RotaryEmbedding
{
    // Plain numbers, not tensors: a tensor in a field would become a buffer, and be cast with the model.
    private readonly RopeConfig _rope;
    private readonly int _dimensions;

    /// <summary>Rotary embedding over the first dimensions of a head.</summary>
    /// <param name="rope">The rotary settings.</param>
    /// <param name="headDimension">Width of a head; <see cref="RopeConfig.RotatedShare"/> of it is rotated.</param>
    public RotaryEmbedding(RopeConfig rope, int headDimension)
    {
        ArgumentNullException.ThrowIfNull(rope);
        _rope = rope;
        _dimensions = (int)(headDimension * rope.RotatedShare);
    }

    /// <summary>The tables for a batch, computed in float32.</summary>
    /// <param name="positions">Positions, [batch, tokens], int64.</param>
    /// <param name="longest">The largest position plus one.</param>
    /// <param name="lengths">The length of the text that each token belongs to, row by row, where they are not all taken to be the longest.</param>
    /// <param name="dtype">The dtype of the queries and keys.</param>
    /// <returns>Cosines and sines, each [batch, 1, tokens, rotated dimensions / 2].</returns>
    public (Tensor Cos, Tensor Sin) Tables(Tensor positions, long longest, IReadOnlyList<long>? lengths, ScalarType dtype)
    {
        ArgumentNullException.ThrowIfNull(positions);
        using var scope = NewDisposeScope();
        var (values, scale) = RopeFrequencies.Compute(_rope, _dimensions, longest);
        var frequencies = lengths is null || !_rope.DependsOnLength
            ? Devices.Send(tensor(values, [values.Length]), positions.device)
            : PerToken(lengths, positions);
        var angles = positions.to(float32).unsqueeze(-1).mul(frequencies).unsqueeze(1);
        var (cos, sin) = (angles.cos(), angles.sin());
        if (scale != 1)
        {
            using Scalar factor = scale;
            (cos, sin) = (cos.mul(factor), sin.mul(factor));
        }

        return (cos.to(dtype).MoveToOuterDisposeScope(), sin.to(dtype).MoveToOuterDisposeScope());
    }

    /// <summary>Whether <see cref="Frequencies"/> are others for another length.</summary>
    internal bool DependsOnLength => _rope.DependsOnLength;

    /// <summary>The frequency of each rotated pair of dimensions, and what cosines and sines are multiplied by.</summary>
    /// <param name="longest">The largest position plus one.</param>
    internal (float[] Frequencies, double Scale) Frequencies(long longest) => RopeFrequencies.Compute(_rope, _dimensions, longest);

    /// <summary>Rotates one of queries or keys.</summary>
    /// <param name="states">[batch, heads, tokens, head_dim].</param>
    /// <param name="cos">From <see cref="Tables"/>; null to leave the states as they are.</param>
    /// <param name="sin">From <see cref="Tables"/>.</param>
    public static Tensor Rotate(Tensor states, Tensor? cos, Tensor? sin)
    {
        ArgumentNullException.ThrowIfNull(states);
        if (cos is null || sin is null)
        {
            return states;
        }

        if (RotaryKernel.Serves(states, cos, sin))
        {
            return FusedRotation.Of(states, cos, sin);
        }

        using var scope = NewDisposeScope();
        var (half, width) = (cos.size(-1), states.size(-1));
        var (left, right) = (states.narrow(-1, 0, half), states.narrow(-1, half, half));
        var first = left.mul(cos).sub(right.mul(sin));
        var second = right.mul(cos).Plus(left.mul(sin));
        return (2 * half == width ? cat([first, second], -1) : cat([first, second, states.narrow(-1, 2 * half, width - (2 * half))], -1)).MoveToOuterDisposeScope();
    }

    // [batch, tokens, rotated dimensions / 2]: a row of frequencies for each length that there is, and each token's pick of them.
    private Tensor PerToken(IReadOnlyList<long> lengths, Tensor positions)
    {
        var distinct = lengths.Distinct().ToList();
        var rows = distinct.SelectMany(length => RopeFrequencies.Compute(_rope, _dimensions, length).Frequencies).ToArray();
        var places = distinct.Select(static (length, i) => (length, i)).ToDictionary(static p => p.length, static p => (long)p.i);
        var table = Devices.Send(tensor(rows, [distinct.Count, _dimensions / 2]), positions.device);
        var picks = Devices.Send(tensor([.. lengths.Select(l => places[l])], [lengths.Count]), positions.device);
        return table.index_select(0, picks).view(positions.size(0), positions.size(1), -1);
    }
}
