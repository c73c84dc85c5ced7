using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Rotary table (cosines and sines) of a step's rows, shared by layers with the same settings.</summary>
/// <param name="rope">The rotary embedding.</param>
/// <param name="headDimension">Head dimension.</param>
/// <param name="rows">Number of rows.</param>
internal sealed unsafe class DecodeRope(RopeConfig rope, int headDimension, nint rows)
{
    private readonly RotaryEmbedding _embedding = new(rope, headDimension);
    private readonly DecodeBuffer _cos = new(rows * headDimension);
    private readonly DecodeBuffer _sin = new(rows * headDimension);
    private (float[] Values, double Scale)? _frequencies;
    private int _turned;

    /// <summary>Computes the table.</summary>
    /// <param name="positions">Position of each row.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    internal void Begin(ReadOnlySpan<long> positions, bool half)
    {
        var longest = 0L;
        foreach (var position in positions)
        {
            longest = Math.Max(longest, position);
        }

        if (_frequencies is null || _embedding.DependsOnLength)
        {
            _frequencies = _embedding.Frequencies(longest + 1);
        }

        var (frequencies, scale) = _frequencies.Value;
        _turned = frequencies.Length;
        for (var row = 0; row < positions.Length; row++)
        {
            float* cos = _cos.Start + (row * headDimension), sin = _sin.Start + (row * headDimension);
            for (var i = 0; i < _turned; i++)
            {
                var (sine, cosine) = MathF.SinCos(positions[row] * frequencies[i]);
                (cos[i], sin[i]) = (cosine * (float)scale, sine * (float)scale);
            }

            DecodeMath.Round(cos, _turned, half);
            DecodeMath.Round(sin, _turned, half);
        }
    }

    /// <summary>Rotates a head by its row's position.</summary>
    internal void Turn(nint row, float* head, bool half)
    {
        if (rope.Interleaved)
        {
            DecodeMath.Separate(head, _turned);
        }

        DecodeMath.Turn(head, _cos.Start + (row * headDimension), _sin.Start + (row * headDimension), _turned, half);
    }
}
