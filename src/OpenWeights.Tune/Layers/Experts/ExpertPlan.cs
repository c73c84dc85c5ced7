using System.Numerics;
using System.Runtime.InteropServices;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>
/// Which rows each expert processes. A selection is a token with one of its experts; they are sorted by expert. Tokens and order have some zeros
/// more than there are selections, so that an expert's range can be read up to the number of rows that are multiplied (<see cref="Rows"/>).
/// </summary>
/// <param name="Counts">Number of selections per expert.</param>
/// <param name="PerToken">Number of experts per token.</param>
/// <param name="Tokens">The token of each selection, sorted by expert, [selections + zeros], int64.</param>
/// <param name="Order">The selections sorted by expert, each as token x PerToken + its place among the token's experts, [selections + zeros], int64.</param>
/// <param name="Places">Where each selection is in that order, int64.</param>
internal sealed record ExpertPlan(IReadOnlyList<long> Counts, int PerToken, Tensor Tokens, Tensor Order, Tensor Places)
{
    /// <summary>
    /// oneDNN compiles a bfloat16 product for each number of rows, which takes as long as the product and keeps some 300 KB; so numbers of rows are
    /// multiples of this, or of a sixteenth of the next power of two.
    /// </summary>
    private const long WholeRows = 32;

    /// <summary>Sorts a routing, in the current dispose scope.</summary>
    /// <param name="chosen">The experts chosen for each token, [tokens, experts per token], int64.</param>
    /// <param name="experts">Number of experts.</param>
    internal static ExpertPlan Of(Tensor chosen, int experts)
    {
        var selections = MemoryMarshal.Cast<byte, long>(chosen.cpu().contiguous().bytes);
        var perToken = (int)chosen.size(1);
        var counts = new long[experts];
        foreach (var expert in selections)
        {
            counts[expert]++;
        }

        var next = new long[experts];
        for (var i = 1; i < experts; i++)
        {
            next[i] = next[i - 1] + counts[i - 1];
        }

        var (tokens, order, places) = (new long[selections.Length + Unit(selections.Length)], new long[selections.Length + Unit(selections.Length)], new long[selections.Length]);
        for (var i = 0; i < selections.Length; i++)
        {
            var place = places[i] = next[selections[i]]++;
            (tokens[place], order[place]) = (i / perToken, i);
        }

        Tensor Sent(long[] values) => Devices.Send(tensor(values, [values.Length]), chosen.device);
        return new ExpertPlan(counts, perToken, Sent(tokens), Sent(order), Sent(places));
    }

    /// <summary>The rows of an expert's selections, and zeros behind them up to a number of rows that products are compiled for.</summary>
    /// <param name="states">Rows of all tokens, [tokens, features].</param>
    /// <param name="start">First of the selections.</param>
    /// <param name="count">Number of selections.</param>
    internal Tensor Rows(Tensor states, long start, long count)
    {
        using var scope = NewDisposeScope();
        var isCompiled = states.device.type == DeviceType.CPU && states.dtype != float32 && count >= WholeRows && ProductPrecision.Of(states, count) == states.dtype;
        var unit = Unit(count);
        var whole = isCompiled ? (count + unit - 1) / unit * unit : count;
        var rows = states.index_select(0, Tokens.narrow(0, start, whole));
        if (whole > count)
        {
            _ = rows.narrow(0, count, whole - count).zero_();
        }

        return rows.MoveToOuterDisposeScope();
    }

    /// <summary>The experts that process rows: index, first place in the sorted order, number of rows.</summary>
    internal IEnumerable<(int Expert, long Start, long Count)> Ranges()
    {
        var start = 0L;
        for (var i = 0; i < Counts.Count; i++)
        {
            if (Counts[i] > 0)
            {
                yield return (i, start, Counts[i]);
            }

            start += Counts[i];
        }
    }

    private static long Unit(long count) => Math.Max(WholeRows, (long)(BitOperations.RoundUpToPowerOf2((ulong)count) / 16));

    /// <summary>Sums, for each token, the rows of its selections: [selections, features] in sorted order to [tokens, features].</summary>
    internal Tensor Gather(Tensor sorted)
    {
        using var scope = NewDisposeScope();
        var rows = sorted.index_select(0, Places);
        return (PerToken == 1 ? rows : rows.view(-1, PerToken, sorted.size(1)).sum(1)).MoveToOuterDisposeScope();
    }
}
