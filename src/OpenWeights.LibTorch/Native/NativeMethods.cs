using System.Runtime.InteropServices;

namespace OpenWeights.LibTorch.Native;

/// <summary>The C interface of native/.</summary>
internal static unsafe partial class NativeMethods
{
    internal const string Library = "OpenWeightsTorch";

    static NativeMethods() => NativeLoader.Load();

    [LibraryImport(Library)]
    private static partial byte* owt_last_error();

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial nint owt_find(string name, string overload);

    [LibraryImport(Library)]
    internal static partial int owt_call(nint found, NativeValue* arguments, int count, NativeValue* results, int* resultCount);

    [LibraryImport(Library)]
    internal static partial void owt_free(nint memory);

    [LibraryImport(Library)]
    internal static partial void owt_release(nint impl);

    [LibraryImport(Library)]
    internal static partial void owt_retain(nint impl);

    [LibraryImport(Library)]
    internal static partial int owt_info_of(nint impl, NativeTensorInfo* info);

    [LibraryImport(Library)]
    internal static partial int owt_data(nint impl, nint* data);

    [LibraryImport(Library)]
    internal static partial int owt_is_contiguous(nint impl);

    [LibraryImport(Library)]
    internal static partial int owt_is_leaf(nint impl);

    [LibraryImport(Library)]
    internal static partial int owt_requires_grad(nint impl);

    [LibraryImport(Library)]
    internal static partial int owt_set_requires_grad(nint impl, int value);

    [LibraryImport(Library)]
    internal static partial int owt_grad(nint impl, nint* grad);

    [LibraryImport(Library)]
    internal static partial int owt_set_grad(nint impl, nint grad);

    [LibraryImport(Library)]
    internal static partial int owt_grad_mode();

    [LibraryImport(Library)]
    internal static partial void owt_set_grad_mode(int enabled);

    [LibraryImport(Library)]
    internal static partial int owt_backward(nint* tensors, long count, nint* grads, long gradCount, int retainGraph, int createGraph, nint* inputs, long inputCount);

    [LibraryImport(Library)]
    internal static partial void owt_set_error(byte* text);

    [LibraryImport(Library)]
    internal static partial int owt_node_new(
        nint context, delegate* unmanaged<nint, nint*, long, nint*, long, int> run, delegate* unmanaged<nint, void> release, nint* inputs, long count, nint* node);

    [LibraryImport(Library)]
    internal static partial void owt_node_release(nint node);

    [LibraryImport(Library)]
    internal static partial int owt_node_output(nint node, nint impl, int differentiable);

    [LibraryImport(Library)]
    internal static partial int owt_node_save(nint node, nint* tensors, long count);

    [LibraryImport(Library)]
    internal static partial nint owt_node_weak(nint node);

    [LibraryImport(Library)]
    internal static partial int owt_node_saved(nint weak, nint* tensors, long* count);

    [LibraryImport(Library)]
    internal static partial int owt_default_generator(int deviceType, int deviceIndex, nint* generator);

    [LibraryImport(Library)]
    internal static partial int owt_new_generator(ulong seed, nint* generator);

    [LibraryImport(Library)]
    internal static partial void owt_generator_release(nint generator);

    [LibraryImport(Library)]
    internal static partial int owt_generator_set_seed(nint generator, ulong seed);

    [LibraryImport(Library)]
    internal static partial int owt_generator_state(nint generator, nint* state);

    [LibraryImport(Library)]
    internal static partial int owt_generator_set_state(nint generator, nint state);

    [LibraryImport(Library)]
    private static partial byte* owt_version();

    [LibraryImport(Library)]
    private static partial byte* owt_describe();

    [LibraryImport(Library)]
    internal static partial int owt_cuda_devices();

    [LibraryImport(Library)]
    internal static partial int owt_cuda_synchronize(long index);

    [LibraryImport(Library)]
    internal static partial int owt_cuda_manual_seed_all(ulong seed);

    [LibraryImport(Library)]
    internal static partial int owt_threads();

    [LibraryImport(Library)]
    internal static partial int owt_set_threads(int count);

    [LibraryImport(Library)]
    internal static partial int owt_tf32();

    [LibraryImport(Library)]
    internal static partial void owt_set_tf32(int allow);

    [LibraryImport(Library)]
    internal static partial void owt_use_pooled_memory();

    [LibraryImport(Library)]
    internal static partial void owt_drop_start_pages();

    [LibraryImport(Library)]
    internal static partial void owt_cpu_memory(long* live, long* peak, long* cached);

    [LibraryImport(Library)]
    internal static partial void owt_reset_cpu_peak();

    internal static string LastError() => Marshal.PtrToStringUTF8((nint)owt_last_error()) ?? "an unknown native error";

    internal static string Version() => Marshal.PtrToStringUTF8((nint)owt_version()) ?? "unknown";

    internal static string Describe() => Marshal.PtrToStringUTF8((nint)owt_describe()) ?? "";

    /// <summary>Turns a failed call into the exception that TorchSharp throws: an ExternalException with libtorch's first line.</summary>
    internal static void Check(int status)
    {
        if (status != 0)
        {
            Throw(LastError());
        }
    }

    private static void Throw(string error)
    {
        AutogradCallbacks.Rethrow(error);
        throw new ExternalException(error);
    }
}
