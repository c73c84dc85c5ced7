namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>A Python range.</summary>
internal sealed class PyRange(long start, long stop, long step)
{
    public long Start { get; } = start;

    public long Stop { get; } = stop;

    public long Step { get; } = step;

    public long Count { get; } = CountOf(start, stop, step);

    public long this[long index] => Start + (index * Step);

    public IEnumerable<object?> Items()
    {
        for (long i = 0; i < Count; i++)
        {
            yield return this[i];
        }
    }

    /// <summary>Saturates at the largest long.</summary>
    private static long CountOf(long start, long stop, long step)
    {
        var span = step > 0 ? (Int128)stop - start : (Int128)start - stop;
        var width = Int128.Abs(step);
        return span <= 0 ? 0 : (long)Int128.Min((span + width - 1) / width, long.MaxValue);
    }
}
