using static TorchSharp.torch;

namespace OpenWeights.Tune.Models;

/// <summary>Keys and values of the tokens that were already read, per layer, in buffers that grow by doubling.</summary>
public sealed class KeyValueCache : IDisposable
{
    private readonly Dictionary<int, (Tensor Keys, Tensor Values)> _layers = [];
    private int _reading;

    /// <summary>The number of tokens held.</summary>
    public int Length { get; private set; }

    /// <summary>Adds a layer's keys and values for the tokens being read.</summary>
    /// <param name="layer">The layer's number.</param>
    /// <param name="keys">[batch, key/value heads, tokens, head_dim], already rotated.</param>
    /// <param name="values">Of the same shape.</param>
    /// <returns>All keys and values up to the last of these tokens, as views that live as long as the caller's dispose scope.</returns>
    public (Tensor Keys, Tensor Values) Append(int layer, Tensor keys, Tensor values)
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        var tokens = (int)keys.size(2);
        _reading = tokens;
        if (!_layers.TryGetValue(layer, out var held) || held.Keys.size(2) < Length + tokens)
        {
            held = Grow(layer, keys, values, Length + tokens);
        }

        using (NewDisposeScope())
        {
            _ = held.Keys.narrow(2, Length, tokens).copy_(keys);
            _ = held.Values.narrow(2, Length, tokens).copy_(values);
        }

        return (held.Keys.narrow(2, 0, Length + tokens), held.Values.narrow(2, 0, Length + tokens));
    }

    /// <summary>Counts the tokens that every layer has added.</summary>
    public void Advance()
    {
        Length += _reading;
        _reading = 0;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (keys, values) in _layers.Values)
        {
            keys.Dispose();
            values.Dispose();
        }

        _layers.Clear();
    }

    private (Tensor Keys, Tensor Values) Grow(int layer, Tensor keys, Tensor values, int needed)
    {
        var capacity = Math.Max(64, (long)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)needed));
        var grown = (Enlarge(keys, capacity), Enlarge(values, capacity));
        if (_layers.Remove(layer, out var old))
        {
            using (NewDisposeScope())
            {
                _ = grown.Item1.narrow(2, 0, Length).copy_(old.Keys.narrow(2, 0, Length));
                _ = grown.Item2.narrow(2, 0, Length).copy_(old.Values.narrow(2, 0, Length));
            }

            old.Keys.Dispose();
            old.Values.Dispose();
        }

        return _layers[layer] = grown;
    }

    private static Tensor Enlarge(Tensor like, long capacity) =>
        empty([like.size(0), like.size(1), capacity, like.size(3)], like.dtype, like.device).DetachFromDisposeScope();
}
