using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>Devices and threads as a config or a command line names them.</summary>
public static partial class Devices
{
    // The first generation of GPUs with bfloat16 has compute capability 8.0.
    private const int AmpereMajor = 8;

    /// <summary>Why a name is none of a device's, with the one that is meant; null where it is one.</summary>
    /// <param name="name">The name.</param>
    public static string? NameProblem(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (name is "auto" or "cpu" or "cuda" || CudaNumber().IsMatch(name))
        {
            return null;
        }

        var number = OtherNumber().Match(name);
        var meant = number.Success ? $"cuda:{number.Groups[1].Value}"
            : name.ToLowerInvariant() is "gpu" or "nvidia" ? "cuda"
            : Spelling.Nearest(name, ["auto", "cpu", "cuda"]);
        return $"'{name}' is not possible; possible are auto, cpu, cuda and cuda:N."
            + (meant is not null ? $" Did you mean {meant}?"
            : name.ToLowerInvariant() is "mps" or "metal" or "rocm" or "hip" or "xpu" or "tpu" or "npu" ? " Of GPUs only NVIDIA's are supported."
            : "");
    }

    /// <summary>The device of a name: auto (a GPU where there is one), cpu, cuda or cuda:N.</summary>
    /// <exception cref="InvalidDataException">There is no such device here.</exception>
    /// <exception cref="TorchUnavailableException">There is no torch that works here.</exception>
    public static Device Find(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        TorchSupplier.Require();
        var gpus = name == "cpu" ? 0 : cuda.is_available() ? cuda.device_count() : 0;
        if (name == "auto")
        {
            return gpus > 0 ? WithKernels(device(DeviceType.CUDA, 0)) : CPU;
        }

        if (name == "cpu")
        {
            return CPU;
        }

        var index = name == "cuda" ? 0 : int.Parse(name.AsSpan("cuda:".Length), NumberStyles.None, CultureInfo.InvariantCulture);
        return index < gpus
            ? WithKernels(device(DeviceType.CUDA, index))
            : throw new InvalidDataException(gpus == 0
                ? $"{name}: torch sees no GPU here; use the device cpu, or a torch runtime with CUDA (see `owt doctor`)."
                : $"{name}: torch sees {(gpus == 1 ? "1 GPU, cuda:0" : $"{gpus} GPUs, cuda:0 to cuda:{gpus - 1}")}.");
    }

    /// <summary>Whether a device multiplies bfloat16 itself: CPUs do here, and GPUs of compute capability 8.0 and more.</summary>
    /// <param name="device">The device.</param>
    public static bool HasBFloat16(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return device.type != DeviceType.CUDA || CudaDriver.Read(Math.Max(0, device.index)) is not { Major: < AmpereMajor };
    }

    // The first thing that a GPU is asked to compute. A torch that was built without code for it says so, at length.
    private static Device WithKernels(Device gpu)
    {
        try
        {
            using var scope = NewDisposeScope();
            _ = ones([1], float32, gpu).add(1).cpu();
            return gpu;
        }
        catch (ExternalException e) when (e.Message.Contains("no kernel image", StringComparison.OrdinalIgnoreCase))
        {
            var known = CudaDriver.Read(Math.Max(0, gpu.index));
            throw new InvalidDataException(
                $"{gpu}{(known is null ? "" : string.Create(CultureInfo.InvariantCulture, $" ({known.Name}, compute capability {known.Major}.{known.Minor})"))}: this torch has no kernels for it; take a torch that was built for it (see GPU in the README), or the device cpu.", e);
        }
    }

    /// <summary>The dtype of a name, or null for auto.</summary>
    public static ScalarType? DType(string name) => name switch
    {
        // The members of torch itself would load its libraries.
        "float32" => ScalarType.Float32,
        "bfloat16" => ScalarType.BFloat16,
        "float16" => ScalarType.Float16,
        _ => null,
    };

    /// <summary>Waits until a GPU has done what it was given; the CPU always has.</summary>
    public static void Wait(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.type == DeviceType.CUDA)
        {
            cuda.synchronize(device);
        }
    }

    /// <summary>
    /// Lets a GPU multiply float32 matrices in TensorFloat-32 beside a model of lower precision, whose own numbers have no more digits, and
    /// not beside one that is computed in float32.
    /// </summary>
    /// <param name="device">The model's device.</param>
    /// <param name="dtype">The model's dtype.</param>
    internal static void ChooseProducts(Device device, ScalarType dtype)
    {
        if (device.type == DeviceType.CUDA)
        {
            backends.cuda.matmul.allow_tf32 = dtype is ScalarType.BFloat16 or ScalarType.Float16;
        }
    }

    /// <summary>
    /// Takes a tensor of the CPU to a device. A GPU fetches it from pinned memory when it comes to that, so the program goes on with what
    /// else it has for it.
    /// </summary>
    /// <param name="values">The tensor, which is given away.</param>
    /// <param name="device">Where it is wanted.</param>
    /// <returns>The tensor there, in the caller's dispose scope.</returns>
    internal static Tensor Send(Tensor values, Device device)
    {
        if (device.type == DeviceType.CPU)
        {
            return values;
        }

        using (values)
        using (var pinned = values.pin_memory())
        {
            return pinned.to(device, non_blocking: true);
        }
    }

    /// <summary>Lets torch use every core, unless OMP_NUM_THREADS says otherwise; libtorch may start at one.</summary>
    /// <exception cref="TorchUnavailableException">There is no torch that works here.</exception>
    public static void UseAllCores()
    {
        TorchSupplier.Require();
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable("OMP_NUM_THREADS")) && get_num_threads() < Environment.ProcessorCount)
        {
            set_num_threads(Environment.ProcessorCount);
        }
    }

    [GeneratedRegex(@"\Acuda:\d{1,3}\z")]
    private static partial Regex CudaNumber();

    // gpu:1, cuda1 or only 1.
    [GeneratedRegex(@"\A(?:gpu|cuda)?[:_-]?(\d{1,3})\z", RegexOptions.IgnoreCase)]
    private static partial Regex OtherNumber();
}
