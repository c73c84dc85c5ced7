namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's <c>sorted</c>: stable, also in reverse, and with Python's errors for what has no order.</summary>
internal static class PySort
{
    public static T[] Sorted<T>(IEnumerable<T> items, Func<T, object?> key, bool isReversed)
    {
        var values = items.ToArray();
        var keys = Array.ConvertAll(values, item => key(item));
        var order = Enumerable.Range(0, values.Length).ToArray();
        Merge(order, new int[order.Length], 0, order.Length, keys, isReversed);
        return Array.ConvertAll(order, position => values[position]);
    }

    private static void Merge(int[] order, int[] buffer, int start, int end, object?[] keys, bool isReversed)
    {
        if (end - start < 2)
        {
            return;
        }

        var middle = (start + end) / 2;
        Merge(order, buffer, start, middle, keys, isReversed);
        Merge(order, buffer, middle, end, keys, isReversed);
        order.AsSpan(start, end - start).CopyTo(buffer.AsSpan(start));
        var (left, right) = (start, middle);
        for (var at = start; at < end; at++)
        {
            var takesRight = left == middle || (right < end && IsBefore(keys[buffer[right]], keys[buffer[left]], isReversed));
            order[at] = takesRight ? buffer[right++] : buffer[left++];
        }
    }

    private static bool IsBefore(object? right, object? left, bool isReversed) =>
        isReversed ? PyOperators.Order("<", left, right) : PyOperators.Order("<", right, left);
}
