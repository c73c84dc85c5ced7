using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers;

/// <summary>
/// Which adapter each row has of the batch that is computed now. Modules that have adapters of several rows, which see only states, find it here. Its
/// tensors are in the dispose scope in which it was made.
/// </summary>
internal sealed class AdapterRows : IDisposable
{
    [ThreadStatic]
    private static AdapterRows? s_current;

    private readonly AdapterRows? _before = s_current;
    private readonly Dictionary<string, Places> _places = [];
    private readonly (long Rows, long Tokens) _size;
    private readonly Tensor? _adapted;

    /// <summary>Says it until it is disposed.</summary>
    /// <param name="names">Name of each row's adapter; null for none.</param>
    /// <param name="tokens">Number of tokens of a row.</param>
    /// <param name="device">Device of the batch.</param>
    /// <param name="adapted">See <see cref="AdaptedTokens"/>, [rows, tokens, 1]; null if no row's adapter applies to some tokens only.</param>
    internal AdapterRows(IReadOnlyList<string?> names, long tokens, Device device, Tensor? adapted)
    {
        (_size, _adapted) = ((names.Count, tokens), adapted);
        foreach (var same in names.Select(static (name, row) => (Name: name, Row: (long)row)).Where(static r => r.Name is not null).GroupBy(static r => r.Name!, static r => r.Row))
        {
            long[] rows = [.. same];
            long[] places = [.. rows.SelectMany(row => Enumerable.Range(0, (int)tokens).Select(t => (row * tokens) + t))];
            _places[same.Key] = rows.Length == names.Count ? new Places(null, null) : new Places(tensor(rows, [rows.Length], device: device), tensor(places, [places.Length], device: device));
        }

        s_current = this;
    }

    /// <summary>The adapters of the batch that is computed now; null if no rows have adapters of their own.</summary>
    internal static AdapterRows? Current => s_current;

    /// <summary>Names of the adapters that rows have.</summary>
    internal IReadOnlyCollection<string> Names => _places.Keys;

    /// <inheritdoc/>
    public void Dispose() => s_current = _before;

    /// <summary>The output of a module, with that of the rows of one adapter replaced.</summary>
    /// <param name="name">Name of the adapter.</param>
    /// <param name="input">The input of all rows, [rows, tokens, in] or [rows x tokens, in]; of an embedding [rows x tokens].</param>
    /// <param name="output">The output of all rows, [..., out].</param>
    /// <param name="apply">Computes the output of some rows from their input and the output without the adapter.</param>
    internal Tensor Replace(string name, Tensor input, Tensor output, Func<Tensor, Tensor, Tensor> apply)
    {
        var places = _places[name];
        if (places.Rows is null)
        {
            return apply(input, output);
        }

        var index = output.ndim == 3 && output.size(0) == _size.Rows && output.size(1) == _size.Tokens ? places.Rows
            : output.ndim == 2 && output.size(0) == _size.Rows * _size.Tokens ? places.Tokens!
            : throw new InvalidOperationException($"a module that the adapter {name} changes does not see every token of every row, so that it cannot apply to some rows only; activate it alone");
        using var adapted = AdaptedTokens.Use(_adapted?.index_select(0, places.Rows));
        return output.index_copy(0, index, apply(input.index_select(0, index), output.index_select(0, index)));
    }

    /// <summary>1 for those of some tokens whose rows have an adapter and 0 for others, [tokens, 1]; null for 1 throughout.</summary>
    /// <param name="name">Name of the adapter.</param>
    /// <param name="tokens">The tokens, counted row by row, int64.</param>
    /// <param name="dtype">Data type of the result.</param>
    internal Tensor? Share(string name, Tensor tokens, ScalarType dtype)
    {
        if (_places[name].Tokens is not { } own)
        {
            return null;
        }

        var all = zeros([_size.Rows * _size.Tokens], dtype, tokens.device);
        return all.index_copy(0, own, ones([own.numel()], dtype, tokens.device)).index_select(0, tokens).unsqueeze(1);
    }

    // The rows of an adapter, and their tokens counted row by row; null for all.
    private sealed record Places(Tensor? Rows, Tensor? Tokens);
}
