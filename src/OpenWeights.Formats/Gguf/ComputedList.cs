using System.Collections;

namespace OpenWeights.Formats.Gguf;

/// <summary>
/// A list whose items are computed when they are read. The settings of a file say how long an order of rows is: a damaged or hostile file must
/// not make the reader allocate what it says before that is compared with the rows that there are.
/// </summary>
/// <typeparam name="T">Type of the items.</typeparam>
internal sealed class ComputedList<T> : IReadOnlyList<T>
{
    private readonly Func<int, T> _item;

    /// <summary>Creates a list.</summary>
    /// <param name="count">Number of items; what an int cannot hold is cut, so that the list fits no tensor.</param>
    /// <param name="item">Computes an item.</param>
    internal ComputedList(long count, Func<int, T> item) => (Count, _item) = ((int)Math.Clamp(count, 0, int.MaxValue), item);

    /// <inheritdoc/>
    public int Count { get; }

    /// <inheritdoc/>
    public T this[int index] => (uint)index < (uint)Count ? _item(index) : throw new ArgumentOutOfRangeException(nameof(index));

    /// <inheritdoc/>
    public IEnumerator<T> GetEnumerator() => Enumerable.Range(0, Count).Select(_item).GetEnumerator();

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
