using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Rope;

/// <summary>Rotates queries and keys by their positions (Su et al., 2021), in halves as Hugging Face checkpoints lie.</summary>
public sealed class RotaryEmbedding
{
    // Plain numbers, not tensors: a tensor in a field would become a buffer, and be cast with the model.
    private readonly RopeConfig _rope;
    private readonly int _dimensions;

    /// <summary>Rotary embedding over the first dimensions of a head.</summary>
    /// <param name="rope">The rotary settings.</param>
    /// <param name="dimensions">The number of rotated dimensions of a head.</param>
    public RotaryEmbedding(RopeConfig rope, int dimensions)
    {
        _rope = rope;
        _dimensions = dimensions;
    }

    /// <summary>The tables for a batch, computed in float32, shared by all its layers.</summary>
    /// <param name="positions">Positions, [batch, tokens], int64.</param>
    /// <param name="longest">The largest position plus one.</param>
    /// <param name="dtype">The dtype of the queries and keys.</param>
    /// <returns>Cosines and sines, each [batch, 1, tokens, rotated dimensions / 2].</returns>
    public (Tensor Cos, Tensor Sin) Tables(Tensor positions, long longest, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var (values, scale) = RopeFrequencies.Compute(_rope, _dimensions, longest);
        var frequencies = tensor(values, [values.Length], device: positions.device);
        var angles = positions.to(float32).unsqueeze(-1).mul(frequencies).unsqueeze(1);
        var (cos, sin) = (angles.cos(), angles.sin());
        if (scale != 1)
        {
            using Scalar factor = scale;
            (cos, sin) = (cos.mul(factor), sin.mul(factor));
        }

        return (cos.to(dtype).MoveToOuterDisposeScope(), sin.to(dtype).MoveToOuterDisposeScope());
    }

    /// <summary>Rotates one of queries or keys.</summary>
    /// <param name="states">[batch, heads, tokens, head_dim].</param>
    /// <param name="cos">From <see cref="Tables"/>.</param>
    /// <param name="sin">From <see cref="Tables"/>.</param>
    public static Tensor Rotate(Tensor states, Tensor cos, Tensor sin)
    {
        ArgumentNullException.ThrowIfNull(states);
        using var scope = NewDisposeScope();
        var halves = states.chunk(2, -1);
        var first = halves[0].mul(cos).sub(halves[1].mul(sin));
        var second = halves[1].mul(cos).Plus(halves[0].mul(sin));
        return cat([first, second], -1).MoveToOuterDisposeScope();
    }
}
