using System.Runtime.ExceptionServices;
using OpenWeights.Formats.Safetensors;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>Reads and writes tensors in safetensors files.</summary>
internal static class TensorFiles
{
    // A span is limited to 2 GiB, so a large tensor is handled in parts of this many elements.
    private const long PartElements = 1 << 27;

    // Parts are small enough to be read by several threads: the time is spent not on reading the page cache but
    // on page faults of newly allocated memory.
    private const long ReadPartBytes = 16 << 20;

    private const long ConvertedElements = 1 << 25;

    /// <summary>Reads a tensor, copying from the mapped file directly into its memory; it is in the caller's dispose scope.</summary>
    /// <param name="source">The file or checkpoint.</param>
    /// <param name="name">Name of the tensor.</param>
    /// <param name="dtype">The dtype to convert to; null for the file's.</param>
    /// <param name="device">The target device; null for the CPU.</param>
    /// <exception cref="InvalidDataException">The tensor does not exist, or torch does not support its element type.</exception>
    public static Tensor Read(ITensorSource source, string name, ScalarType? dtype = null, Device? device = null)
    {
        var entry = source.GetTensor(name);
        using var scope = NewDisposeScope();
        var stored = ToTorch(entry);
        var result = empty([.. entry.Shape], dtype ?? stored, device ?? CPU);
        if (result.dtype == stored && result.device.type == DeviceType.CPU)
        {
            Fill(result.view(-1), source, name, 0);
            return result.MoveToOuterDisposeScope();
        }

        if (result.device.type == DeviceType.CPU && WidenedRead.Serves(stored, result.dtype))
        {
            WidenedRead.Fill(result, source, entry);
            return result.MoveToOuterDisposeScope();
        }

        // Other conversions and copies to a GPU go through a buffer of several parts.
        using var nothing = no_grad();
        var (flat, count) = (result.view(-1), Math.Min(entry.ElementCount, ConvertedElements));
        var buffer = empty([count], stored);
        for (long start = 0; start < entry.ElementCount; start += count)
        {
            using var inner = NewDisposeScope();
            var part = buffer.narrow(0, 0, Math.Min(count, entry.ElementCount - start));
            Fill(part, source, name, start * part.element_size());
            _ = flat.narrow(0, start, part.numel()).copy_(part);
        }

        return result.MoveToOuterDisposeScope();
    }

    /// <summary>One of the tensors that a tensor in a file consists of along its first dimension, in the file's dtype and the caller's dispose scope.</summary>
    /// <param name="source">The file or checkpoint.</param>
    /// <param name="name">Name of the tensor.</param>
    /// <param name="index">Index along the first dimension.</param>
    /// <param name="device">The target device.</param>
    internal static Tensor ReadPart(ITensorSource source, string name, long index, Device device)
    {
        var entry = source.GetTensor(name);
        using var scope = NewDisposeScope();
        var part = empty([.. entry.Shape.Skip(1)], ToTorch(entry));
        Fill(part.view(-1), source, name, index * part.numel() * part.element_size());
        return part.to(device).MoveToOuterDisposeScope();
    }

    /// <summary>A tensor to write to a file, optionally in another dtype. It must not be disposed before the file is written.</summary>
    /// <param name="name">The name in the file.</param>
    /// <param name="tensor">The tensor, on any device.</param>
    /// <param name="dtype">The dtype in the file; null for the tensor's.</param>
    public static TensorToWrite ToWrite(string name, Tensor tensor, ScalarType? dtype = null)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        var type = dtype ?? tensor.dtype;
        return new TensorToWrite(name, ToFile(type), tensor.shape, stream => Write(stream, tensor, type));
    }

    /// <summary>A tensor to write to a file that is created when it is written, so that only one is in memory at a time.</summary>
    /// <param name="name">The name in the file.</param>
    /// <param name="dtype">The dtype in the file.</param>
    /// <param name="shape">The tensor's shape.</param>
    /// <param name="make">Creates the tensor, in the dispose scope current at that time.</param>
    public static TensorToWrite ToWrite(string name, ScalarType dtype, IReadOnlyList<long> shape, Func<Tensor> make) => new(name, ToFile(dtype), shape, stream =>
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Write(stream, make(), dtype);
    });

    /// <summary>The torch dtype of a file's element type.</summary>
    /// <exception cref="InvalidDataException">Torch does not support the element type.</exception>
    public static ScalarType ToTorch(TensorEntry entry)
    {
        ArgumentNullException.ThrowIfNull(entry);
        return entry.DType switch
        {
            DType.BOOL => ScalarType.Bool,
            DType.U8 => ScalarType.Byte,
            DType.I8 => ScalarType.Int8,
            DType.I16 => ScalarType.Int16,
            DType.I32 => ScalarType.Int32,
            DType.I64 => ScalarType.Int64,
            DType.F16 => ScalarType.Float16,
            DType.BF16 => ScalarType.BFloat16,
            DType.F32 => ScalarType.Float32,
            DType.F64 => ScalarType.Float64,
            _ => throw new InvalidDataException($"{entry.FilePath}: tensor {entry.Name} has the element type {entry.DType}, which is not supported; convert the model to BF16, F16 or F32 first."),
        };
    }

    private static void Fill(Tensor flat, ITensorSource source, string name, long offset)
    {
        var (elements, size) = (flat.numel(), flat.element_size());
        var step = ReadPartBytes / size;
        InParts((elements + step - 1) / step, i =>
        {
            using var scope = NewDisposeScope();
            var part = flat.narrow(0, i * step, Math.Min(step, elements - (i * step)));
            source.CopyTo(name, offset + (i * ReadPartBytes), part.bytes);
            WorkMarks.Set();
        });
    }

    /// <summary>Processes the parts of a tensor, with several threads if there are several parts.</summary>
    internal static void InParts(long parts, Action<long> work)
    {
        if (parts == 1)
        {
            work(0);
            return;
        }

        try
        {
            _ = Parallel.For(0, parts, work);
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Capture(e.InnerExceptions[0]).Throw();
        }
    }

    private static DType ToFile(ScalarType type) => type switch
    {
        ScalarType.Bool => DType.BOOL,
        ScalarType.Byte => DType.U8,
        ScalarType.Int8 => DType.I8,
        ScalarType.Int16 => DType.I16,
        ScalarType.Int32 => DType.I32,
        ScalarType.Int64 => DType.I64,
        ScalarType.Float16 => DType.F16,
        ScalarType.BFloat16 => DType.BF16,
        ScalarType.Float32 => DType.F32,
        ScalarType.Float64 => DType.F64,
        _ => throw new NotSupportedException($"safetensors files do not support {type}"),
    };

    private static void Write(Stream stream, Tensor tensor, ScalarType type)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var flat = tensor.detach().contiguous().view(-1);
        for (long start = 0; start < flat.numel(); start += PartElements)
        {
            using var inner = NewDisposeScope();
            var part = flat.narrow(0, start, Math.Min(PartElements, flat.numel() - start)).to(type, CPU);
            stream.Write(part.bytes);
            WorkMarks.Set();
        }
    }
}
