using OpenWeights.Tune.Models.Rope;

namespace OpenWeights.Tune.Models.Steps;

/// <summary>The rotary cosines and sines of a step's rows; layers with the same settings share them.</summary>
/// <param name="rope">The rotary settings.</param>
/// <param name="headDimension">Width of a head.</param>
/// <param name="rows">How many rows.</param>
internal sealed unsafe class StepRope(RopeConfig rope, int headDimension, nint rows)
{
    private readonly RotaryEmbedding _embedding = new(rope, headDimension);
    private readonly StepNumbers _cos = new(rows * headDimension);
    private readonly StepNumbers _sin = new(rows * headDimension);

    /// <summary>Makes the tables.</summary>
    /// <param name="positions">Each row's position.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    internal void Begin(ReadOnlySpan<long> positions, bool half)
    {
        var longest = 0L;
        foreach (var position in positions)
        {
            longest = Math.Max(longest, position);
        }

        for (var row = 0; row < positions.Length; row++)
        {
            var (start, count) = (row * headDimension, _embedding.Half);
            _embedding.Row(positions[row], longest + 1, _cos.Span.Slice(start, count), _sin.Span.Slice(start, count));
            StepMath.Round(_cos.Start + start, count, half);
            StepMath.Round(_sin.Start + start, count, half);
        }
    }

    /// <summary>Turns a head by its row's position.</summary>
    internal void Turn(nint row, float* head, bool half) =>
        StepMath.Turn(head, _cos.Start + (row * headDimension), _sin.Start + (row * headDimension), _embedding.Half, half);
}
