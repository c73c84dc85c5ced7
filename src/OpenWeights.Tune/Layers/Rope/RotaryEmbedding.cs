using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Rope;

/// <summary>
/// Rotary position embedding of queries and keys (Su et al., 2021), in the split-half layout of Hugging Face checkpoints.
/// </summary>
internal sealed class RotaryEmbedding
{
    // Plain numbers, not tensors: a tensor in a field would be registered as a buffer, and cast with the model.
    private readonly RopeConfig _rope;
    private readonly int _dimensions;

    /// <summary>Creates the embedding of the first dimensions of a head.</summary>
    /// <param name="rope">The rotary settings.</param>
    /// <param name="headDimension">Head dimension; <see cref="RopeConfig.RotatedShare"/> of it is rotated.</param>
    public RotaryEmbedding(RopeConfig rope, int headDimension)
    {
        ArgumentNullException.ThrowIfNull(rope);
        _rope = rope;
        _dimensions = (int)(headDimension * rope.RotatedShare);
    }

    /// <summary>The tables for a batch, computed in float32, or in float64 for a float64 model.</summary>
    /// <param name="positions">Positions, [batch, tokens], int64.</param>
    /// <param name="longest">Largest position plus one.</param>
    /// <param name="lengths">Length of each token's text, row by row, if texts are not all treated as the longest; otherwise null.</param>
    /// <param name="dtype">Data type of queries and keys.</param>
    /// <returns>Cosines and sines, each [batch, 1, tokens, rotated dimensions / 2].</returns>
    public (Tensor Cos, Tensor Sin) Tables(Tensor positions, long longest, IReadOnlyList<long>? lengths, ScalarType dtype)
    {
        ArgumentNullException.ThrowIfNull(positions);
        using var scope = NewDisposeScope();
        var (values, scale) = RopeFrequencies.Compute(_rope, _dimensions, longest);
        var perToken = lengths is not null && _rope.DependsOnLength;
        var frequencies = perToken
            ? PerToken(lengths!, positions, static computed => computed.Frequencies)
            : Devices.Send(tensor(values, [values.Length]), positions.device);
        var angles = positions.to(WideNumbers.Of(dtype)).unsqueeze(-1).mul(frequencies).unsqueeze(1);
        var (cos, sin) = (angles.cos(), angles.sin());
        if (perToken && _rope.LengthScales is not null)
        {
            var factors = PerToken(lengths!, positions, static computed => [(float)computed.Scale]).unsqueeze(1);
            (cos, sin) = (cos.mul(factors), sin.mul(factors));
        }
        else if (scale != 1)
        {
            using Scalar factor = scale;
            (cos, sin) = (cos.mul(factor), sin.mul(factor));
        }

        return (cos.to(dtype).MoveToOuterDisposeScope(), sin.to(dtype).MoveToOuterDisposeScope());
    }

    /// <summary>Whether <see cref="Frequencies"/> depend on the length.</summary>
    internal bool DependsOnLength => _rope.DependsOnLength;

    /// <summary>Frequency of each rotated pair of dimensions, and the factor of cosines and sines.</summary>
    /// <param name="longest">Largest position plus one.</param>
    internal (float[] Frequencies, double Scale) Frequencies(long longest) => RopeFrequencies.Compute(_rope, _dimensions, longest);

    /// <summary>Rotates queries or keys.</summary>
    /// <param name="states">Queries or keys, [batch, heads, tokens, head_dim].</param>
    /// <param name="cos">Cosines from <see cref="Tables"/>; null to return the states unchanged.</param>
    /// <param name="sin">Sines from <see cref="Tables"/>.</param>
    /// <param name="interleaved">Whether rotated pairs are neighbours (<see cref="RopeConfig.Interleaved"/>); the result has them half of the rotated dimensions apart.</param>
    public static Tensor Rotate(Tensor states, Tensor? cos, Tensor? sin, bool interleaved = false)
    {
        ArgumentNullException.ThrowIfNull(states);
        if (cos is null || sin is null)
        {
            return states;
        }

        if (interleaved)
        {
            using var outer = NewDisposeScope();
            return Rotate(Apart(states, 2 * cos.size(-1)), cos, sin).MoveToOuterDisposeScope();
        }

        using var scope = NewDisposeScope();
        var (half, width) = (cos.size(-1), states.size(-1));
        var (left, right) = (states.narrow(-1, 0, half), states.narrow(-1, half, half));
        var first = left.mul(cos).sub(right.mul(sin));
        var second = right.mul(cos).Plus(left.mul(sin));
        return (2 * half == width ? cat([first, second], -1) : cat([first, second, states.narrow(-1, 2 * half, width - (2 * half))], -1)).MoveToOuterDisposeScope();
    }

    /// <summary>Puts rotated heads back into the order of interleaved pairs.</summary>
    /// <param name="states">Rotated queries or keys, [batch, heads, tokens, head_dim], of which pairs are half of the rotated dimensions apart.</param>
    /// <param name="rotated">Number of rotated dimensions.</param>
    internal static Tensor Interleave(Tensor states, long rotated)
    {
        using var scope = NewDisposeScope();
        var pairs = states.narrow(-1, 0, rotated).unflatten(states.ndim - 1, [2, rotated / 2]).transpose(-1, -2).flatten(-2);
        return (rotated == states.size(-1) ? pairs : cat([pairs, states.narrow(-1, rotated, states.size(-1) - rotated)], -1)).MoveToOuterDisposeScope();
    }

    // The first dimension of each pair, then the second of each, then those that are not rotated.
    private static Tensor Apart(Tensor states, long rotated)
    {
        var pairs = states.narrow(-1, 0, rotated).unflatten(states.ndim - 1, [rotated / 2, 2]).transpose(-1, -2).flatten(-2);
        return rotated == states.size(-1) ? pairs : cat([pairs, states.narrow(-1, rotated, states.size(-1) - rotated)], -1);
    }

    // [batch, tokens, values]: one row of values per distinct length, gathered by token.
    private Tensor PerToken(IReadOnlyList<long> lengths, Tensor positions, Func<(float[] Frequencies, double Scale), float[]> valuesOf)
    {
        var distinct = lengths.Distinct().ToList();
        var rows = distinct.SelectMany(length => valuesOf(RopeFrequencies.Compute(_rope, _dimensions, length))).ToArray();
        var places = distinct.Select(static (length, i) => (length, i)).ToDictionary(static p => p.length, static p => (long)p.i);
        var table = Devices.Send(tensor(rows, [distinct.Count, rows.Length / distinct.Count]), positions.device);
        var picks = Devices.Send(tensor([.. lengths.Select(l => places[l])], [lengths.Count]), positions.device);
        return table.index_select(0, picks).view(positions.size(0), positions.size(1), -1);
    }
}
