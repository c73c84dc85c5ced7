using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Projections;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>
/// A linear layer with its LoRA update, x Wᵀ + b + s B A x, for a few rows. It stores addresses of the weights, not copies.
/// </summary>
internal sealed unsafe class DecodeProduct
{
    // Number of outputs computed at once, so that they are still in the L1 cache when they are rounded.
    private const int Block = 256;

    private readonly object[] _held;
    private readonly MatrixRows _weight;
    private readonly bool _isHalf;
    private readonly DecodeBuffer? _bias;
    private readonly RowMatrix _down;
    private readonly RowMatrix _up;
    private readonly float _scale;

    private DecodeProduct(MatrixRows weight, object held, bool isHalf, Tensor? bias, LowRankUpdate? update)
    {
        (_weight, _isHalf, Columns) = (weight, isHalf, weight.Count);
        _bias = bias is null ? null : DecodeBuffer.Of(bias);
        _held = update is null ? [held] : [held, update.A, update.B];
        if (update is not null)
        {
            (_down, _up, _scale, Rank) = (RowMatrix.Of(update.A), RowMatrix.Of(update.B), update.Scale, (nint)update.A.size(0));
        }
    }

    /// <summary>Number of output features.</summary>
    internal nint Columns { get; }

    /// <summary>Rank of the update; 0 for none.</summary>
    internal nint Rank { get; }

    /// <summary>Bytes of one output feature's weights.</summary>
    internal nint RowBytes => _weight.RowBytes;

    /// <summary>
    /// Builds the product of a layer; null if it is not supported: of another dtype, not on the CPU, or with another adapter than LoRA.
    /// </summary>
    internal static DecodeProduct? Of(LinearLayer layer, ScalarType dtype)
    {
        var update = layer.Adapter?.PlainUpdate;
        if (!Projection.Serves(layer) || (update is not null && !CpuKernel.Serves(update.A, update.B)))
        {
            return null;
        }

        // An adapter may bring a weight in full in the place of the quantized one.
        if (layer.Slots[0].Current is not { } weight)
        {
            var quantized = layer.Quantized!;
            return dtype is ScalarType.Float32 or ScalarType.BFloat16 && quantized.InMemory is { } rows ? new DecodeProduct(rows, quantized, dtype == ScalarType.BFloat16, layer.Bias, update) : null;
        }

        return weight.dtype == dtype && CpuKernel.Serves(weight) ? new DecodeProduct(new PlainRows(RowMatrix.Of(weight), (nint)weight.size(0)), weight, dtype == ScalarType.BFloat16, layer.Bias, update) : null;
    }

    /// <summary>Fetches the weights of an output and some more behind it.</summary>
    internal void Fetch(nint output) => _weight.Fetch(output);

    /// <summary>Computes some rows of A x, for <see cref="Run"/>.</summary>
    /// <param name="first">First row of A.</param>
    /// <param name="last">End row of A, exclusive.</param>
    /// <param name="states">Input x.</param>
    /// <param name="inner">A x, [rows, rank].</param>
    internal void RunInner(nint first, nint last, in FloatRows states, in FloatRows inner) => RowProduct.Run(_down, first, last, states, inner.From(first));

    /// <summary>Computes some of the outputs, rounded to the model's dtype after each sum.</summary>
    /// <param name="first">First output.</param>
    /// <param name="last">End output, exclusive.</param>
    /// <param name="states">Input x.</param>
    /// <param name="inner">The complete A x, if there is an update.</param>
    /// <param name="output">All outputs, [rows, columns].</param>
    [SkipLocalsInit]
    internal void Run(nint first, nint last, in FloatRows states, in FloatRows inner, in FloatRows output)
    {
        var updates = stackalloc float[Rank > 0 ? Block * DecodeStep.MaxRows : 0];
        var update = new FloatRows((nint)updates, Block, states.Count);
        for (var start = first; start < last; start += Block)
        {
            var end = Math.Min(last, start + Block);
            _weight.Multiply(start, end, states, output.From(start));
            if (Rank > 0)
            {
                RowProduct.Run(_up, start, end, inner, update);
            }

            for (nint row = 0; row < states.Count; row++)
            {
                var bias = _bias is null ? null : _bias.Start + start;
                Complete(output[row] + start, bias, Rank > 0 ? update[row] : null, end - start);
            }
        }

        GC.KeepAlive(_held);
    }

    private void Complete(float* sums, float* bias, float* update, nint count)
    {
        if (!_isHalf && bias is null && update is null)
        {
            return;
        }

        for (nint i = 0; i < count; i += Lanes.Width)
        {
            var sum = DecodeMath.Round(Lanes.Read<Float32Elements>(sums, i, count), _isHalf);
            if (bias is not null)
            {
                sum = DecodeMath.Round(sum + Lanes.Read<Float32Elements>(bias, i, count), _isHalf);
            }

            if (update is not null)
            {
                sum = DecodeMath.Round(sum + (Vector256.Create(_scale) * Lanes.Read<Float32Elements>(update, i, count)), _isHalf);
            }

            Lanes.Write<Float32Elements>(sums, i, count, sum);
        }
    }
}
