using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using TorchSharp;

namespace OpenWeights.LibTorch.Native;

/// <summary>
/// Runs an operator by its name ("aten::add.Tensor"). Names are literals, so the cache compares references; a name that is not
/// interned only finds its operator again.
/// </summary>
internal static unsafe class Op
{
    private const int MaxResults = 8;
    private static readonly ConcurrentDictionary<string, nint> s_found = new(ReferenceEqualityComparer.Instance);

    /// <summary>Whether this libtorch has the operator.</summary>
    internal static bool Exists(string name) => Find(name) != 0;

    /// <summary>Runs an operator that gives one tensor.</summary>
    internal static torch.Tensor Tensor(string name, params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result;
        _ = Call(name, arguments, &result, 1);
        return new torch.Tensor((nint)result.Bits);
    }

    /// <summary>Runs an operator that changes its first argument in place, and gives that argument back.</summary>
    internal static torch.Tensor InPlace(string name, params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result;
        _ = Call(name, arguments, &result, 1);
        if (result.Bits != 0)
        {
            NativeMethods.owt_release((nint)result.Bits);
        }

        return (torch.Tensor)arguments[0].Reference!;
    }

    /// <summary>Runs an operator that gives two tensors.</summary>
    internal static (torch.Tensor, torch.Tensor) Pair(string name, params ReadOnlySpan<Arg> arguments)
    {
        var results = stackalloc NativeValue[2];
        _ = Call(name, arguments, results, 2);
        return (new torch.Tensor((nint)results[0].Bits), new torch.Tensor((nint)results[1].Bits));
    }

    /// <summary>Runs an operator that gives three tensors.</summary>
    internal static (torch.Tensor, torch.Tensor, torch.Tensor) Triple(string name, params ReadOnlySpan<Arg> arguments)
    {
        var results = stackalloc NativeValue[3];
        _ = Call(name, arguments, results, 3);
        return (new torch.Tensor((nint)results[0].Bits), new torch.Tensor((nint)results[1].Bits), new torch.Tensor((nint)results[2].Bits));
    }

    /// <summary>Runs an operator that gives a list of tensors.</summary>
    internal static torch.Tensor[] Tensors(string name, params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result;
        _ = Call(name, arguments, &result, 1);
        var tensors = new torch.Tensor[result.Count];
        for (var i = 0; i < tensors.Length; i++)
        {
            tensors[i] = new torch.Tensor(((nint*)result.Bits)[i]);
        }

        NativeMethods.owt_free((nint)result.Bits);
        return tensors;
    }

    /// <summary>Runs an operator that gives a number or a truth value.</summary>
    internal static Scalar Scalar(string name, params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result;
        _ = Call(name, arguments, &result, 1);
        return new Scalar(result.Kind, result.Bits);
    }

    private static nint Find(string name) => s_found.GetOrAdd(name, static full =>
    {
        var dot = full.IndexOf('.', StringComparison.Ordinal);
        return dot < 0 ? NativeMethods.owt_find(full, "") : NativeMethods.owt_find(full[..dot], full[(dot + 1)..]);
    });

    private static int Call(string name, ReadOnlySpan<Arg> arguments, NativeValue* results, int expected)
    {
        var found = Find(name);
        if (found == 0)
        {
            throw new NotSupportedException($"libtorch {NativeMethods.Version()} has no operator {name}; a newer libtorch is needed for this.");
        }

        var values = stackalloc NativeValue[arguments.Length];
        var pins = new Pins(arguments);
        try
        {
            pins.Fill(arguments, values);
            var given = stackalloc NativeValue[MaxResults];
            var count = MaxResults;
            NativeMethods.Check(NativeMethods.owt_call(found, values, arguments.Length, given, &count));
            for (var i = 0; i < expected && i < count; i++)
            {
                results[i] = given[i];
            }

            for (var i = expected; i < count; i++)
            {
                Discard(given[i]);
            }

            return count;
        }
        finally
        {
            pins.Release();
        }
    }

    private static void Discard(in NativeValue value)
    {
        if (value.Kind == ValueKind.Tensor && value.Bits != 0)
        {
            NativeMethods.owt_release((nint)value.Bits);
        }
    }

    /// <summary>Keeps the arrays among the arguments in place during the call.</summary>
    private struct Pins
    {
        private readonly GCHandle[]? _handles;
        private readonly object?[]? _kept;

        internal Pins(ReadOnlySpan<Arg> arguments)
        {
            foreach (ref readonly var argument in arguments)
            {
                if (argument.Kind is ValueKind.Ints or ValueKind.Tensors or ValueKind.String)
                {
                    _handles = new GCHandle[arguments.Length];
                    _kept = new object?[arguments.Length];
                    return;
                }
            }
        }

        internal readonly void Fill(ReadOnlySpan<Arg> arguments, NativeValue* values)
        {
            for (var i = 0; i < arguments.Length; i++)
            {
                ref readonly var argument = ref arguments[i];
                values[i] = new NativeValue { Kind = argument.Kind, Aux = argument.Aux, Bits = argument.Bits };
                if (argument.Kind is not (ValueKind.Ints or ValueKind.Tensors or ValueKind.String))
                {
                    continue;
                }

                var array = (Array)argument.Reference!;
                if (array is torch.Tensor?[] tensors)
                {
                    _kept![i] = tensors;
                    array = Array.ConvertAll(tensors, static t => t?.Handle ?? 0);
                }

                _handles![i] = GCHandle.Alloc(array, GCHandleType.Pinned);
                values[i].Bits = _handles[i].AddrOfPinnedObject();
                values[i].Count = array.Length;
            }
        }

        internal readonly void Release()
        {
            if (_handles is null)
            {
                return;
            }

            foreach (var handle in _handles)
            {
                if (handle.IsAllocated)
                {
                    handle.Free();
                }
            }
        }
    }
}
