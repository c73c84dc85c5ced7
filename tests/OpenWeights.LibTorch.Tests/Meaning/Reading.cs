using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Meaning;

/// <summary>Reads tensors for the assertions.</summary>
internal static class Reading
{
    /// <summary>The values in row-major order, as doubles.</summary>
    internal static double[] Values(this Tensor tensor)
    {
        using var scope = NewDisposeScope();
        return MemoryMarshal.Cast<byte, double>(tensor.detach().to(ScalarType.Float64, CPU).contiguous().bytes).ToArray();
    }

    /// <summary>The bytes in row-major order.</summary>
    internal static byte[] Bits(this Tensor tensor)
    {
        using var scope = NewDisposeScope();
        return tensor.detach().contiguous().bytes.ToArray();
    }

    /// <summary>Numbers from -1 to 1 in no pattern, the same at each run.</summary>
    internal static Tensor Mixed(ScalarType type, params long[] shape)
    {
        var count = shape.Aggregate(1L, static (product, size) => product * size);
        var values = new double[count];
        for (var i = 0; i < count; i++)
        {
            values[i] = Math.Sin((12.9898 * i) + 4.1);
        }

        using var scope = NewDisposeScope();
        return tensor(values, shape).to(type, copy: true).MoveToOuterDisposeScope();
    }
}
