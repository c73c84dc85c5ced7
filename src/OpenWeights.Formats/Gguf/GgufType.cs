namespace OpenWeights.Formats.Gguf;

/// <summary>Element types of GGUF tensors, with ggml's numbers
/// (<see href="https://github.com/ggml-org/ggml/blob/master/include/ggml.h"/>). The quantised ones are stored in blocks of a row.</summary>
public enum GgufType
{
    /// <summary>IEEE 754 single precision.</summary>
    F32 = 0,

    /// <summary>IEEE 754 half precision.</summary>
    F16 = 1,

    /// <summary>4 bits and a scale for 32 values.</summary>
    Q4_0 = 2,

    /// <summary>4 bits, a scale and a minimum for 32 values.</summary>
    Q4_1 = 3,

    /// <summary>5 bits and a scale for 32 values.</summary>
    Q5_0 = 6,

    /// <summary>5 bits, a scale and a minimum for 32 values.</summary>
    Q5_1 = 7,

    /// <summary>8 bits and a scale for 32 values.</summary>
    Q8_0 = 8,

    /// <summary>2 bits for 256 values, each 16 of them with a 4-bit scale and minimum.</summary>
    Q2_K = 10,

    /// <summary>3 bits for 256 values, each 16 of them with a 6-bit scale.</summary>
    Q3_K = 11,

    /// <summary>4 bits for 256 values, each 32 of them with a 6-bit scale and minimum.</summary>
    Q4_K = 12,

    /// <summary>5 bits for 256 values, each 32 of them with a 6-bit scale and minimum.</summary>
    Q5_K = 13,

    /// <summary>6 bits for 256 values, each 16 of them with an 8-bit scale.</summary>
    Q6_K = 14,

    /// <summary>bfloat16: the upper half of a single-precision float.</summary>
    BF16 = 30,
}
