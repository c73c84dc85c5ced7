using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>Attention of one layer between its projections: one new token per row attends to the cached tokens and itself.</summary>
/// <param name="shape">Layer index, number of heads and head dimension.</param>
/// <param name="norms">Norms of queries and keys, and whether each normalizes all heads together; null for none.</param>
/// <param name="rope">The layer's rotary table; null for a layer without rotary embedding.</param>
/// <param name="scale">Scaling factor of the scores.</param>
/// <param name="cap">Soft cap of the scores; null for none.</param>
internal sealed unsafe class DecodeAttention(DecodeHeads shape, (DecodeNorm Query, DecodeNorm Key, bool AllHeads)? norms, DecodeRope? rope, float scale, float? cap)
{
    private nint Group => shape.Heads / shape.KeyValueHeads;

    /// <summary>
    /// Number of parts the computation is split into: by key/value head with its query heads, or by query head if there are few.
    /// </summary>
    internal int Parts(DecodeState state)
    {
        var tasks = state.RowCount * shape.KeyValueHeads;
        return (int)(tasks % state.Threads == 0 || tasks > 4 * state.Threads ? tasks : state.RowCount * shape.Heads);
    }

    /// <summary>Normalizes and rotates queries and keys, and appends keys and values to the cache.</summary>
    internal void Turn(DecodeState state)
    {
        var slot = state.Slot(shape.Layer);
        var (queries, keys) = (shape.Heads * shape.Width, shape.KeyValueHeads * shape.Width);
        for (nint row = 0; row < state.RowCount; row++)
        {
            var heads = state.Heads[row];
            if (norms is { } n)
            {
                Normalise(n.Query, heads, queries, n.AllHeads, state.Half);
                Normalise(n.Key, heads + queries, keys, n.AllHeads, state.Half);
            }

            for (nint head = 0; rope is not null && head < shape.Heads + shape.KeyValueHeads; head++)
            {
                rope.Turn(row, heads + (head * shape.Width), state.Half);
            }

            for (nint head = 0; head < shape.KeyValueHeads; head++)
            {
                var place = (((row * shape.KeyValueHeads) + head) * slot.Capacity) + slot.Start + slot.Seen;
                DecodeMath.Write(heads + queries + (head * shape.Width), shape.Width, (void*)Matrix(slot.Keys, state.Half).From(place).Start, state.Half);
                DecodeMath.Write(heads + queries + keys + (head * shape.Width), shape.Width, (void*)Matrix(slot.Values, state.Half).From(place).Start, state.Half);
            }
        }
    }

    /// <summary>Computes the attention output of one part.</summary>
    internal void Attend(DecodeState state, int part, int parts)
    {
        var heads = state.RowCount * shape.Heads / parts;
        var (row, head) = ((nint)part * heads / shape.Heads, (nint)part * heads % shape.Heads);
        var slot = state.Slot(shape.Layer);
        var hidden = state.Hidden(row, slot);
        var (place, count) = ((((row * shape.KeyValueHeads) + (head / Group)) * slot.Capacity) + slot.Start + hidden, slot.Seen + 1 - hidden);
        var scores = state.Scores(row, head, heads, count);
        RowProduct.Run(Matrix(slot.Keys, state.Half).From(place), 0, count, new FloatRows((nint)(state.Heads[row] + (head * shape.Width)), shape.Width, heads), scores);
        var values = Matrix(slot.Values, state.Half).From(place);
        for (nint i = 0; i < heads; i++)
        {
            var mixed = state.Mixed[row] + ((head + i) * shape.Width);
            var factor = 1 / Exponentials(scores[i], count);
            RowProduct.WeightedSum(values, count, scores[i], mixed);
            RowSoftmax.Scale(mixed, shape.Width, factor);
            DecodeMath.Round(mixed, shape.Width, state.Half);
        }
    }

    private float Exponentials(float* scores, nint count)
    {
        RowSoftmax.Scale(scores, count, scale);
        if (cap is { } limit)
        {
            RowSoftmax.Limit(scores, count, limit);
        }

        return RowSoftmax.Exponentials(scores, count);
    }

    private void Normalise(DecodeNorm norm, float* heads, nint count, bool together, bool half)
    {
        for (nint i = 0; i < count; i += together ? count : shape.Width)
        {
            norm.Apply(heads + i, heads + i, half);
        }
    }

    private RowMatrix Matrix(nint start, bool half) => new(start, shape.Width, half);
}

/// <summary>Heads of a layer.</summary>
/// <param name="Layer">Layer index.</param>
/// <param name="Heads">Number of query heads.</param>
/// <param name="KeyValueHeads">Number of key/value heads.</param>
/// <param name="Width">Head dimension.</param>
internal sealed record DecodeHeads(int Layer, nint Heads, nint KeyValueHeads, nint Width);
