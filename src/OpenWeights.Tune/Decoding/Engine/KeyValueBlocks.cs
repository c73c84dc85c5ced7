using System.Runtime.InteropServices;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>
/// Memory for keys and values in blocks of a few tokens, each of which holds them for all layers: per layer the keys of a head, those of the next, and then
/// the values. Blocks that are given back are kept for the next text.
/// </summary>
internal sealed unsafe class KeyValueBlocks : IDisposable
{
    /// <summary>Number of tokens of a block.</summary>
    internal const int Tokens = 64;

    private const nuint Alignment = 64;

    private readonly Stack<nint> _free = [];
    private readonly DecodeLayerPlace[] _places;
    private readonly AttentionSettings?[] _layers;
    private long _made;

    private KeyValueBlocks(AttentionSettings?[] layers, ScalarType dtype, long maxBytes)
    {
        (_layers, ElementSize, _places) = (layers, dtype == ScalarType.BFloat16 ? sizeof(ushort) : sizeof(float), new DecodeLayerPlace[layers.Length]);
        nint bytes = 0;
        for (var i = 0; i < layers.Length; i++)
        {
            if (layers[i] is { } layer)
            {
                var half = (nint)layer.KeyValueHeadCount * Tokens * layer.HeadDimension * ElementSize;
                _places[i] = new DecodeLayerPlace(bytes, bytes + half);
                bytes += 2 * half;
            }
        }

        (BlockBytes, Max) = (bytes, bytes == 0 ? 0 : maxBytes / bytes);
    }

    /// <summary>Bytes of a block.</summary>
    internal long BlockBytes { get; }

    /// <summary>Maximum number of blocks.</summary>
    internal long Max { get; }

    /// <summary>Number of blocks in use.</summary>
    internal long Used => _made - _free.Count;

    /// <summary>Where each layer is in a block.</summary>
    internal IReadOnlyList<DecodeLayerPlace> Places => _places;

    /// <summary>Bytes of a key or value element.</summary>
    internal int ElementSize { get; }

    /// <summary>Creates the memory for a model whose layers are all plain attention, each with keys and values of its own; null for others.</summary>
    /// <param name="model">The model.</param>
    /// <param name="maxBytes">Maximum number of bytes, given the bytes per token.</param>
    internal static KeyValueBlocks? Of(CausalLanguageModel model, Func<long, long> maxBytes)
    {
        var layers = new AttentionSettings?[model.Stack.Layers.Count];
        long perToken = 0;
        for (var i = 0; i < layers.Length; i++)
        {
            var layer = model.Stack.Layers[i];
            if (layer.Mixer is not { } mixer)
            {
                continue;
            }

            if (mixer.Part is not SelfAttention { Settings: { KeysOf: null } settings } || settings.ValueWidth != settings.HeadDimension)
            {
                return null;
            }

            layers[i] = settings;
            perToken += 2L * settings.KeyValueHeadCount * settings.HeadDimension * (model.DType == ScalarType.BFloat16 ? sizeof(ushort) : sizeof(float));
        }

        return perToken == 0 ? null : new KeyValueBlocks(layers, model.DType, maxBytes(perToken));
    }

    /// <summary>Settings of a layer's attention.</summary>
    internal AttentionSettings Layer(int layer) => _layers[layer] ?? throw new InvalidOperationException($"layer {layer} has no attention");

    /// <summary>Takes a block; null if there is none.</summary>
    internal nint? Take()
    {
        if (_free.TryPop(out var block))
        {
            return block;
        }

        if (_made >= Max)
        {
            return null;
        }

        _made++;
        return (nint)NativeMemory.AlignedAlloc((nuint)BlockBytes, Alignment);
    }

    /// <summary>Gives a block back.</summary>
    internal void Give(nint block) => _free.Push(block);

    /// <summary>Copies the first tokens of a block to another.</summary>
    /// <param name="from">The block.</param>
    /// <param name="to">The other block.</param>
    /// <param name="tokens">Number of tokens.</param>
    internal void Copy(nint from, nint to, int tokens)
    {
        for (var i = 0; i < _layers.Length; i++)
        {
            if (_layers[i] is not { } layer)
            {
                continue;
            }

            var row = (nint)layer.HeadDimension * ElementSize;
            for (nint head = 0; head < 2 * layer.KeyValueHeadCount; head++)
            {
                var offset = _places[i].Keys + (head * Tokens * row);
                Buffer.MemoryCopy((void*)(from + offset), (void*)(to + offset), tokens * row, tokens * row);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_free.TryPop(out var block))
        {
            NativeMemory.AlignedFree((void*)block);
            _made--;
        }
    }
}
