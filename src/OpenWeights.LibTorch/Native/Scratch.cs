using System.Runtime.InteropServices;
using TorchSharp;

namespace OpenWeights.LibTorch.Native;

/// <summary>Copies the lists among an operator's arguments to where they stay in place during the call: the stack while there is room.</summary>
internal unsafe ref struct Scratch(long* memory, int length)
{
    private int _used;
    private List<nint>? _owned;

    /// <summary>The argument as it goes to the native part.</summary>
    internal NativeValue Place(in Arg argument)
    {
        var value = new NativeValue { Kind = argument.Kind, Aux = argument.Aux, Bits = argument.Bits };
        switch (argument.Kind)
        {
            case ValueKind.Ints:
                var numbers = (long[])argument.Reference!;
                value.Bits = (nint)Copy<long>(numbers);
                value.Count = numbers.Length;
                break;
            case ValueKind.String:
                var text = (byte[])argument.Reference!;
                value.Bits = (nint)Copy<byte>(text);
                value.Count = text.Length;
                break;
            case ValueKind.Tensors:
                var tensors = (torch.Tensor?[])argument.Reference!;
                var handles = (long*)Room(tensors.Length);
                for (var i = 0; i < tensors.Length; i++)
                {
                    handles[i] = tensors[i]?.Handle ?? 0;
                }

                value.Bits = (nint)handles;
                value.Count = tensors.Length;
                break;
        }

        return value;
    }

    /// <summary>Frees what did not fit on the stack.</summary>
    internal readonly void Free() => _owned?.ForEach(static memory => NativeMemory.Free((void*)memory));

    private void* Copy<T>(T[] source)
        where T : unmanaged
    {
        var room = Room(((source.Length * sizeof(T)) + 7) / 8);
        source.CopyTo(new Span<T>(room, source.Length));
        return room;
    }

    private void* Room(int count)
    {
        if (count <= length - _used)
        {
            _used += count;
            return memory + _used - count;
        }

        var made = NativeMemory.Alloc((nuint)count, sizeof(long));
        (_owned ??= []).Add((nint)made);
        return made;
    }
}
