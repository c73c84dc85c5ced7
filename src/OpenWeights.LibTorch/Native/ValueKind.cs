namespace OpenWeights.LibTorch.Native;

/// <summary>What an owt_value holds (owt_kind).</summary>
internal enum ValueKind
{
    None = 0,
    Tensor = 1,
    Int = 2,
    Double = 3,
    Bool = 4,
    Ints = 5,
    Tensors = 6,
    String = 7,
    Device = 8,
    Generator = 9,
    Doubles = 10,
}
