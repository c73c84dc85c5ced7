using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>Keys and values of one layer in blocks, for the model's own forward: of one text, or of the first tokens of several.</summary>
/// <param name="pool">The memory of blocks.</param>
/// <param name="layer">Index of the layer.</param>
/// <param name="parts">The texts, in the order in which their tokens come.</param>
internal sealed unsafe class BlockKeyValues(KeyValueBlocks pool, int layer, IReadOnlyList<BlockPart> parts) : LayerState, IKeyValues
{
    private readonly AttentionSettings _settings = pool.Layer(layer);

    public override long ByteLength => 0;

    private nint RowBytes => (nint)_settings.HeadDimension * pool.ElementSize;

    public (Tensor Keys, Tensor Values) Append(Tensor keys, Tensor values)
    {
        var place = pool.Places[layer];
        return (Append(keys, place.Keys), Append(values, place.Values));
    }

    internal override bool CanTruncate(int length) => false;

    internal override void Truncate(int length) => throw new NotSupportedException();

    internal override void Select(long[] rows) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        // The blocks belong to the text.
    }

    private Tensor Append(Tensor states, nint place)
    {
        var tokens = (int)states.size(2);
        using (var scope = NewDisposeScope())
        {
            var from = states.contiguous();
            var start = (nint)CpuKernel.Pointer(from);
            foreach (var part in parts)
            {
                Copy(start, tokens, (part.Blocks, part.Past, part.Tokens), place, writes: true);
                start += part.Tokens * RowBytes;
            }

            GC.KeepAlive(from);
        }

        // A layer with a window attends to no earlier ones.
        var kept = Math.Min(parts[0].Past, (_settings.Window ?? int.MaxValue) - 1);
        if (kept == 0)
        {
            return states;
        }

        var all = empty([1, _settings.KeyValueHeadCount, kept + tokens, _settings.HeadDimension], states.dtype);
        Copy((nint)CpuKernel.Pointer(all), kept + tokens, (parts[0].Blocks, parts[0].Past - kept, kept + tokens), place, writes: false);
        return all;
    }

    // Copies tokens of a text from or to a tensor, [1, heads, width, head_dim], from an address in its first head on.
    private void Copy(nint tensor, int width, (IReadOnlyList<nint> Blocks, int First, int Count) text, nint place, bool writes)
    {
        var (blocks, first, count) = text;
        for (nint head = 0; head < _settings.KeyValueHeadCount; head++)
        {
            for (int done = 0, run; done < count; done += run)
            {
                var (block, within) = (blocks[(first + done) / KeyValueBlocks.Tokens], (first + done) % KeyValueBlocks.Tokens);
                run = Math.Min(count - done, KeyValueBlocks.Tokens - within);
                var there = (void*)(block + place + (((head * KeyValueBlocks.Tokens) + within) * RowBytes));
                var here = (void*)(tensor + (((head * width) + done) * RowBytes));
                Buffer.MemoryCopy(writes ? here : there, writes ? there : here, run * RowBytes, run * RowBytes);
            }
        }
    }
}

/// <summary>Tokens of a text that are read.</summary>
/// <param name="Blocks">The text's blocks, with room for them.</param>
/// <param name="Past">Number of earlier tokens; 0 for all texts if there are several.</param>
/// <param name="Tokens">Number of tokens.</param>
internal readonly record struct BlockPart(IReadOnlyList<nint> Blocks, int Past, int Tokens);
