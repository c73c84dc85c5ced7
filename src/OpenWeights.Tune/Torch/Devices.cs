using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Torch;

/// <summary>Parses names of devices and dtypes in configs and on the command line.</summary>
internal static partial class Devices
{
    // GPUs support bfloat16 from compute capability 8.0.
    private const int AmpereMajor = 8;

    /// <summary>Error message for an invalid device name, with a suggestion; null if the name is valid.</summary>
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
        return $"'{name}' is not a valid value; valid values are auto, cpu, cuda and cuda:N."
            + (meant is not null ? $" Did you mean {meant}?"
            : name.ToLowerInvariant() is "mps" or "metal" or "rocm" or "hip" or "xpu" or "tpu" or "npu" ? " Of GPUs only NVIDIA's are supported."
            : "");
    }

    /// <summary>Error message for the names of one or several devices; null if they are valid.</summary>
    /// <param name="names">The names.</param>
    public static string? NameProblem(IReadOnlyList<string> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        if (names.Select(NameProblem).FirstOrDefault(static p => p is not null) is { } problem)
        {
            return problem;
        }

        string[] numbered = [.. names.Select(static n => n == "cuda" ? "cuda:0" : n)];
        return names.Count == 0 ? "the list names no device; valid values are auto, cpu, cuda and cuda:N, or a list such as [cuda:0, cuda:1]."
            : names.Count > 1 && names.FirstOrDefault(static n => n is "auto" or "cpu") is { } other ? $"'{other}' cannot be one of several devices; a list is of GPUs, such as [cuda:0, cuda:1]."
            : numbered.GroupBy(static n => n).FirstOrDefault(static g => g.Count() > 1) is { } twice ? $"{twice.Key} is named twice; name each GPU once."
            : null;
    }

    /// <summary>The devices of names; see <see cref="Find(string)"/>.</summary>
    /// <param name="names">Names without a <see cref="NameProblem(IReadOnlyList{string})"/>.</param>
    /// <exception cref="InvalidDataException">A device does not exist.</exception>
    /// <exception cref="TorchUnavailableException">Torch cannot be used here.</exception>
    public static IReadOnlyList<Device> Find(IReadOnlyList<string> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        return [.. names.Select(Find)];
    }

    /// <summary>The device of a name: auto (a GPU if there is one, otherwise the CPU), cpu, cuda or cuda:N.</summary>
    /// <exception cref="InvalidDataException">The device does not exist.</exception>
    /// <exception cref="TorchUnavailableException">Torch cannot be used here.</exception>
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
                ? $"{name}: torch finds no GPU; use the device cpu, or a torch runtime with CUDA (see `owt doctor`)."
                : $"{name}: torch finds {(gpus == 1 ? "1 GPU, cuda:0" : $"{gpus} GPUs, cuda:0 to cuda:{gpus - 1}")}.");
    }

    /// <summary>Whether a device supports bfloat16 products: CPUs and GPUs of compute capability 8.0 and above.</summary>
    /// <param name="device">The device.</param>
    public static bool HasBFloat16(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return device.type != DeviceType.CUDA || CudaDriver.Read(Math.Max(0, device.index)) is not { Major: < AmpereMajor };
    }

    // A first computation on the GPU. A torch that was built without code for it fails with a long message.
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
                $"{gpu}{(known is null ? "" : string.Create(CultureInfo.InvariantCulture, $" ({known.Name}, compute capability {known.Major}.{known.Minor})"))}: this torch has no kernels for it; use a torch built for it (see docs/gpu.md), or the device cpu.", e);
        }
    }

    /// <summary>The dtype of a name; null for auto.</summary>
    public static ScalarType? DType(string name) => name switch
    {
        // Accessing torch's members would load its libraries.
        "float32" => ScalarType.Float32,
        "bfloat16" => ScalarType.BFloat16,
        "float16" => ScalarType.Float16,
        "float64" => ScalarType.Float64,
        _ => null,
    };

    /// <summary>Waits until a GPU has completed its queued work; returns immediately for the CPU.</summary>
    public static void Wait(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (device.type == DeviceType.CUDA)
        {
            cuda.synchronize(device);
        }
    }

    /// <summary>
    /// Enables TensorFloat-32 for float32 matrix products on a GPU if the model is in lower precision, which has no more significant bits,
    /// and disables it for a float32 model.
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
    /// Moves a CPU tensor to a device. A GPU copies it asynchronously from pinned memory, so the program continues with other
    /// work.
    /// </summary>
    /// <param name="values">The tensor; it is disposed.</param>
    /// <param name="device">The target device.</param>
    /// <returns>The tensor on the device, in the caller's dispose scope.</returns>
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

    /// <summary>Lets torch use all cores, unless OMP_NUM_THREADS is set; libtorch may start with one thread.</summary>
    /// <exception cref="TorchUnavailableException">Torch cannot be used here.</exception>
    public static void UseAllCores() => UseAllCores(processes: 1);

    /// <summary>Gives torch's CPU operations this process's share of the cores, unless OMP_NUM_THREADS says how many threads they have.</summary>
    /// <param name="processes">Number of processes that compute on this machine.</param>
    internal static void UseAllCores(int processes)
    {
        TorchSupplier.Require();
        var threads = Math.Max(1, Environment.ProcessorCount / processes);
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable("OMP_NUM_THREADS")) && (processes == 1 ? get_num_threads() < threads : get_num_threads() != threads))
        {
            set_num_threads(threads);
        }
    }

    [GeneratedRegex(@"\Acuda:\d{1,3}\z")]
    private static partial Regex CudaNumber();

    // gpu:1, cuda1 or just 1.
    [GeneratedRegex(@"\A(?:gpu|cuda)?[:_-]?(\d{1,3})\z", RegexOptions.IgnoreCase)]
    private static partial Regex OtherNumber();
}
