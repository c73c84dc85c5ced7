using OpenWeights.Tune.Kernels;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>A layer's attention between its products: one token of each row looks at those before it and at itself.</summary>
/// <param name="shape">The layer's number, its heads, and how wide they are.</param>
/// <param name="norms">What normalises queries and keys, and whether each norm takes all heads together; null for nothing.</param>
/// <param name="rope">Where the layer's cosines and sines are; null where it has no positions.</param>
/// <param name="scale">What scores are multiplied by.</param>
/// <param name="cap">What they are kept within; null for no limit.</param>
internal sealed unsafe class DecodeAttention(DecodeHeads shape, (DecodeNorm Query, DecodeNorm Key, bool AllHeads)? norms, DecodeRope? rope, float scale, float? cap)
{
    private nint Group => shape.Heads / shape.KeyValueHeads;

    /// <summary>Into how many parts the looking is split: key/value heads with all that look at them, or where these are few query heads.</summary>
    internal int Parts(DecodeState state)
    {
        var tasks = state.RowCount * shape.KeyValueHeads;
        return (int)(tasks % state.Threads == 0 || tasks > 4 * state.Threads ? tasks : state.RowCount * shape.Heads);
    }

    /// <summary>Normalises and turns queries and keys, and writes keys and values into the cache.</summary>
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

    /// <summary>Mixes values by where the queries of a part look.</summary>
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

/// <summary>The heads of a layer.</summary>
/// <param name="Layer">The layer's number.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="KeyValueHeads">Key/value heads.</param>
/// <param name="Width">Width of a head.</param>
internal sealed record DecodeHeads(int Layer, nint Heads, nint KeyValueHeads, nint Width);
