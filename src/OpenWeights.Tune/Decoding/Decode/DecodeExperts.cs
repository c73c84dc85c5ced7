using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Experts;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>One matrix of every expert of a mixture, for a few rows.</summary>
internal sealed unsafe class DecodeExperts
{
    private readonly MatrixRows[] _experts;
    private readonly object _held;
    private readonly DecodeBuffer? _bias;

    private DecodeExperts(MatrixRows[] experts, object held, Tensor? bias)
    {
        (_experts, _held, _bias) = (experts, held, bias is null ? null : DecodeBuffer.Of(bias));
    }

    /// <summary>Number of experts.</summary>
    internal int Count => _experts.Length;

    /// <summary>Number of output features.</summary>
    internal nint Outputs => _experts[0].Count;

    /// <summary>The matrices; null if they are not supported: with low-rank updates, or stored by input.</summary>
    internal static DecodeExperts? Of(ExpertMatrix matrix, ScalarType dtype)
    {
        if (matrix.Updates.Count > 0)
        {
            return null;
        }

        if (matrix.Quantized is { } quantized)
        {
            var packed = quantized.Select(static q => q.InMemory).OfType<MatrixRows>().ToArray();
            return packed.Length == quantized.Count ? new DecodeExperts(packed, quantized, matrix.Bias) : null;
        }

        if (matrix.IsTransposed || matrix.Weight is not { } weight || weight.dtype != dtype || !CpuKernel.Serves(weight))
        {
            return null;
        }

        var (all, outputs) = (new RowMatrix((nint)CpuKernel.Pointer(weight), (nint)matrix.InFeatures, dtype == ScalarType.BFloat16), (nint)matrix.OutFeatures);
        return new DecodeExperts([.. Enumerable.Range(0, matrix.Count).Select(i => new PlainRows(all.From(i * outputs), outputs))], weight, matrix.Bias);
    }

    /// <summary>Computes some of the outputs of an expert, rounded to the model's dtype after each sum.</summary>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="range">The first output, and the end, exclusive.</param>
    /// <param name="states">Its input.</param>
    /// <param name="output">All outputs.</param>
    /// <param name="half">Whether the model is in bfloat16.</param>
    internal void Multiply(int expert, (nint First, nint Last) range, in FloatRows states, in FloatRows output, bool half)
    {
        _experts[expert].Multiply(range.First, range.Last, states, output.From(range.First));
        for (nint row = 0; row < states.Count; row++)
        {
            DecodeMath.Round(output[row] + range.First, range.Last - range.First, half);
            if (_bias is not null)
            {
                DecodeMath.Add(output[row] + range.First, _bias.Start + (expert * Outputs) + range.First, 1, range.Last - range.First, half);
            }
        }

        GC.KeepAlive(_held);
    }
}
