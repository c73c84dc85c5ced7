using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Attention;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>Keys and values of one layer of a text in blocks, for the model's own forward.</summary>
/// <param name="pool">The memory of blocks.</param>
/// <param name="layer">Index of the layer.</param>
/// <param name="blocks">The text's blocks, with room for its next tokens.</param>
/// <param name="past">Number of earlier tokens.</param>
internal sealed unsafe class BlockKeyValues(KeyValueBlocks pool, int layer, IReadOnlyList<nint> blocks, int past) : LayerState, IKeyValues
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
            Copy((nint)CpuKernel.Pointer(from), tokens, past, place, writes: true);
            GC.KeepAlive(from);
        }

        // A layer with a window attends to no earlier ones.
        var kept = Math.Min(past, (_settings.Window ?? int.MaxValue) - 1);
        if (kept == 0)
        {
            return states;
        }

        var all = empty([1, _settings.KeyValueHeadCount, kept + tokens, _settings.HeadDimension], states.dtype);
        Copy((nint)CpuKernel.Pointer(all), kept + tokens, past - kept, place, writes: false);
        return all;
    }

    // Copies tokens of the text, from one on, from or to a tensor, [1, heads, tokens, head_dim].
    private void Copy(nint tensor, int count, int first, nint place, bool writes)
    {
        for (nint head = 0; head < _settings.KeyValueHeadCount; head++)
        {
            for (int done = 0, run; done < count; done += run)
            {
                var (block, within) = (blocks[(first + done) / KeyValueBlocks.Tokens], (first + done) % KeyValueBlocks.Tokens);
                run = Math.Min(count - done, KeyValueBlocks.Tokens - within);
                var there = (void*)(block + place + (((head * KeyValueBlocks.Tokens) + within) * RowBytes));
                var here = (void*)(tensor + (((head * count) + done) * RowBytes));
                Buffer.MemoryCopy(writes ? here : there, writes ? there : here, run * RowBytes, run * RowBytes);
            }
        }
    }
}
