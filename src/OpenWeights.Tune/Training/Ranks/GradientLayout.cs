using System.Globalization;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>A piece of a parameter that one rank updates.</summary>
/// <param name="Parameter">Index of the parameter.</param>
/// <param name="Start">Its first element within the parameter.</param>
/// <param name="Count">Number of elements.</param>
/// <param name="Rank">The rank.</param>
/// <param name="Offset">Its first element within the bucket.</param>
internal readonly record struct ParameterPiece(int Parameter, long Start, long Count, int Rank, long Offset);

/// <summary>Parameters whose gradients are sent together, one after the other in a flat buffer of one part for each rank.</summary>
/// <param name="Parameters">Indexes of the parameters.</param>
/// <param name="Pieces">Their pieces, in the order of the buffer.</param>
/// <param name="PartLength">Elements of a rank's part.</param>
/// <param name="Layer">The layer after whose backward pass all of these gradients are complete; -1 for the end of the backward pass.</param>
internal sealed record GradientBucket(IReadOnlyList<int> Parameters, IReadOnlyList<ParameterPiece> Pieces, long PartLength, int Layer);

/// <summary>How parameters are laid out in buckets: in the order in which backward passes complete their gradients, the last layer first.</summary>
internal static class GradientLayout
{
    /// <summary>Elements at which shares of ranks are cut, a multiple of the block of 8-bit optimizer state.</summary>
    internal const long Block = 2048;

    /// <summary>Lays out parameters.</summary>
    /// <param name="parameters">The parameters.</param>
    /// <param name="model">The model that they belong to.</param>
    /// <param name="ranks">Number of ranks.</param>
    /// <param name="bytes">Size of a bucket from which no parameter is added to it.</param>
    /// <param name="block">Elements at whose multiples parameters start and are cut.</param>
    internal static IReadOnlyList<GradientBucket> Of(IReadOnlyList<TrainedParameter> parameters, DecoderConfig model, int ranks, double bytes, long block)
    {
        var layers = parameters.Select(p => LayerOf(p.Name, model)).ToArray();
        var buckets = new List<GradientBucket>();
        var open = new List<int>();
        var filled = 0L;
        foreach (var index in Enumerable.Range(0, parameters.Count).OrderByDescending(i => layers[i]).ThenByDescending(static i => i))
        {
            var parameter = parameters[index].Parameter;

            // What is not complete before the end, what fills a bucket by itself (and need not be copied into one), and other data types have buckets of their own.
            var fills = parameter.numel() * sizeof(float) >= bytes;
            if (open.Count > 0 && (filled >= bytes || fills || (layers[index] < 0 != layers[open[0]] < 0) || parameters[open[0]].Parameter.dtype != parameter.dtype || !parameters[open[0]].Parameter.device.Equals(parameter.device)))
            {
                Close();
            }

            open.Add(index);
            filled += Aligned(parameter.numel(), block) * sizeof(float);
        }

        Close();
        return buckets;

        void Close()
        {
            if (open.Count > 0)
            {
                buckets.Add(Bucket(open, parameters, ranks, block, open.Min(i => layers[i])));
            }

            (open, filled) = ([], 0);
        }
    }

    /// <summary>The layer that a parameter belongs to; the number of layers for what comes after them, and -1 for what is used elsewhere or not known.</summary>
    /// <param name="name">Name of the parameter.</param>
    /// <param name="model">The model.</param>
    internal static int LayerOf(string name, DecoderConfig model)
    {
        var names = model.Names;
        if (Regex.Match(name, $@"(?:^|\.){Regex.Escape(names.Stack)}\.{Regex.Escape(names.Layers)}\.(\d+)\.", RegexOptions.CultureInvariant) is { Success: true } match)
        {
            return int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture);
        }

        return name.EndsWith(names.HeadWeight, StringComparison.Ordinal) && !model.TiedEmbeddings ? model.LayerCount : -1;
    }

    private static GradientBucket Bucket(IReadOnlyList<int> indexes, IReadOnlyList<TrainedParameter> parameters, int ranks, long block, int layer)
    {
        var length = indexes.Sum(i => Aligned(parameters[i].Parameter.numel(), block));
        var part = Aligned((length + ranks - 1) / ranks, block);
        var (pieces, offset) = (new List<ParameterPiece>(), 0L);
        foreach (var index in indexes)
        {
            var count = parameters[index].Parameter.numel();
            for (var start = 0L; start < count;)
            {
                var at = offset + start;
                var taken = Math.Min(count - start, (((at / part) + 1) * part) - at);
                pieces.Add(new ParameterPiece(index, start, taken, (int)(at / part), at));
                start += taken;
            }

            offset += Aligned(count, block);
        }

        return new GradientBucket(indexes, pieces, part, layer);
    }

    private static long Aligned(long count, long block) => (count + block - 1) / block * block;
}
