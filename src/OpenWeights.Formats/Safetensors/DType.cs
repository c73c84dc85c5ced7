namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// The element types of safetensors, in the order of the reference implementation
/// (<see href="https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs"/>), in which a later one is written first.
/// All are little-endian.
/// </summary>
public enum DType
{
    /// <summary>A boolean in a byte.</summary>
    BOOL,

    /// <summary>4-bit float of the OCP microscaling formats (MXFP4); two to a byte.</summary>
    F4,

    /// <summary>6-bit float with 2 exponent and 3 mantissa bits (MXFP6); four to three bytes.</summary>
    F6_E2M3,

    /// <summary>6-bit float with 3 exponent and 2 mantissa bits (MXFP6); four to three bytes.</summary>
    F6_E3M2,

    /// <summary>Unsigned byte.</summary>
    U8,

    /// <summary>Signed byte.</summary>
    I8,

    /// <summary>8-bit float with 5 exponent and 2 mantissa bits.</summary>
    F8_E5M2,

    /// <summary>8-bit float with 4 exponent and 3 mantissa bits, without infinities.</summary>
    F8_E4M3,

    /// <summary>8-bit power-of-two scale of the OCP microscaling formats.</summary>
    F8_E8M0,

    /// <summary>8-bit float with 4 exponent and 3 mantissa bits, one zero and one NaN.</summary>
    F8_E4M3FNUZ,

    /// <summary>8-bit float with 5 exponent and 2 mantissa bits, one zero and one NaN.</summary>
    F8_E5M2FNUZ,

    /// <summary>Signed 16-bit integer.</summary>
    I16,

    /// <summary>Unsigned 16-bit integer.</summary>
    U16,

    /// <summary>IEEE 754 half precision.</summary>
    F16,

    /// <summary>bfloat16: the upper half of a single-precision float.</summary>
    BF16,

    /// <summary>Signed 32-bit integer.</summary>
    I32,

    /// <summary>Unsigned 32-bit integer.</summary>
    U32,

    /// <summary>IEEE 754 single precision.</summary>
    F32,

    /// <summary>Complex number of two single-precision floats.</summary>
    C64,

    /// <summary>IEEE 754 double precision.</summary>
    F64,

    /// <summary>Signed 64-bit integer.</summary>
    I64,

    /// <summary>Unsigned 64-bit integer.</summary>
    U64,
}
