using TorchSharp;

namespace OpenWeights.LibTorch.Native;

/// <summary>An argument of an operator on its way to the dispatcher. Null and default are None.</summary>
internal readonly struct Arg
{
    internal readonly ValueKind Kind;
    internal readonly int Aux;
    internal readonly long Bits;
    internal readonly object? Reference;

    private Arg(ValueKind kind, long bits = 0, object? reference = null, int aux = 0)
    {
        Kind = kind;
        Bits = bits;
        Reference = reference;
        Aux = aux;
    }

    internal static Arg None => default;

    // Keeping the wrapper as the reference keeps it from being finalized during the call.
    public static implicit operator Arg(torch.Tensor? value) => value is null ? default : new(ValueKind.Tensor, value.Handle, value);

    public static implicit operator Arg(long value) => new(ValueKind.Int, value);

    public static implicit operator Arg(long? value) => value is { } v ? new(ValueKind.Int, v) : default;

    public static implicit operator Arg(int value) => new(ValueKind.Int, value);

    public static implicit operator Arg(double value) => new(ValueKind.Double, BitConverter.DoubleToInt64Bits(value));

    public static implicit operator Arg(bool value) => new(ValueKind.Bool, value ? 1 : 0);

    public static implicit operator Arg(string? value) => value is null ? default : new(ValueKind.String, 0, System.Text.Encoding.UTF8.GetBytes(value));

    public static implicit operator Arg(long[]? value) => value is null ? default : new(ValueKind.Ints, 0, value);

    public static implicit operator Arg(ReadOnlySpan<long> value) => new(ValueKind.Ints, 0, value.ToArray());

    public static implicit operator Arg(torch.Tensor?[] value) => new(ValueKind.Tensors, 0, value);

    public static implicit operator Arg(Scalar? value) => value is null ? default : new(value.Kind, value.Bits);

    public static implicit operator Arg(torch.ScalarType value) => new(ValueKind.Int, (long)value);

    public static implicit operator Arg(torch.ScalarType? value) => value is { } v ? (Arg)v : default;

    public static implicit operator Arg(torch.Device? value) => value is null ? default : new(ValueKind.Device, value.index, null, (int)value.type);

    public static implicit operator Arg(torch.Generator? value) => value is null ? default : new(ValueKind.Generator, value.Handle, value);
}
