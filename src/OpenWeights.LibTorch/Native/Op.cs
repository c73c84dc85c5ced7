using System.Runtime.CompilerServices;
using TorchSharp;

namespace OpenWeights.LibTorch.Native;

/// <summary>
/// Runs an operator by its name ("aten::add.Tensor"). Names are literals, so the cache compares references; a name that is not
/// interned only finds its operator again.
/// </summary>
[SkipLocalsInit]
internal static unsafe class Op
{
    private const int MaxResults = 8;
    private const int ScratchLength = 32;
    private const int Places = 1024;
    private static readonly Entry?[] s_found = new Entry?[Places];

    /// <summary>Whether this libtorch has the operator.</summary>
    internal static bool Exists(string name) => Find(name) != 0;

    /// <summary>Runs an operator that returns one tensor.</summary>
    internal static torch.Tensor Tensor(string name, params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result;
        _ = Call(name, arguments, &result, 1);
        return new torch.Tensor((nint)result.Bits);
    }

    /// <summary>Runs an operator that modifies its first argument in place, and returns that argument.</summary>
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

    /// <summary>Runs an operator that returns two tensors.</summary>
    internal static (torch.Tensor, torch.Tensor) Pair(string name, params ReadOnlySpan<Arg> arguments)
    {
        var results = stackalloc NativeValue[2];
        _ = Call(name, arguments, results, 2);
        return (new torch.Tensor((nint)results[0].Bits), new torch.Tensor((nint)results[1].Bits));
    }

    /// <summary>Runs an operator that returns three tensors.</summary>
    internal static (torch.Tensor, torch.Tensor, torch.Tensor) Triple(string name, params ReadOnlySpan<Arg> arguments)
    {
        var results = stackalloc NativeValue[3];
        _ = Call(name, arguments, results, 3);
        return (new torch.Tensor((nint)results[0].Bits), new torch.Tensor((nint)results[1].Bits), new torch.Tensor((nint)results[2].Bits));
    }

    /// <summary>Runs an operator that returns a list of tensors.</summary>
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

    /// <summary>Runs an operator that returns a number or a Boolean.</summary>
    internal static Scalar Scalar(string name, params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result;
        _ = Call(name, arguments, &result, 1);
        return new Scalar(result.Kind, result.Bits);
    }

    // A cache indexed by the hash of the name's reference; two names in one slot replace each other.
    private static nint Find(string name)
    {
        ref var place = ref s_found[RuntimeHelpers.GetHashCode(name) % Places];
        var entry = place;
        if (!ReferenceEquals(entry?.Name, name))
        {
            var dot = name.IndexOf('.', StringComparison.Ordinal);
            var found = dot < 0 ? NativeMethods.owt_find(name, "") : NativeMethods.owt_find(name[..dot], name[(dot + 1)..]);
            place = entry = new Entry(name, found);
        }

        return entry!.Operator;
    }

    private static int Call(string name, ReadOnlySpan<Arg> arguments, NativeValue* results, int expected)
    {
        var found = Find(name);
        if (found == 0)
        {
            throw new NotSupportedException($"libtorch {NativeMethods.Version()} has no operator {name}; a newer libtorch is needed for this.");
        }

        var values = stackalloc NativeValue[arguments.Length];
        var scratch = stackalloc long[ScratchLength];
        var room = new Scratch(scratch, ScratchLength);
        for (var i = 0; i < arguments.Length; i++)
        {
            values[i] = room.Place(arguments[i]);
        }

        var given = stackalloc NativeValue[MaxResults];
        var count = MaxResults;
        try
        {
            NativeMethods.Check(NativeMethods.owt_call(found, values, arguments.Length, given, &count));
        }
        finally
        {
            room.Free();
        }

        for (var i = 0; i < count; i++)
        {
            if (i < expected)
            {
                results[i] = given[i];
            }
            else if (given[i] is { Kind: ValueKind.Tensor, Bits: not 0 })
            {
                NativeMethods.owt_release((nint)given[i].Bits);
            }
        }

        return count;
    }

    private sealed record Entry(string Name, nint Operator);
}
