using OpenWeights.Formats.Gguf;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Contents of a GGUF file to be written.</summary>
/// <param name="Preset">The requested preset.</param>
/// <param name="Bytes">Size of the tensors, in bytes.</param>
/// <param name="Fallbacks">Tensors whose type differs from the preset's, grouped by both types.</param>
internal sealed record GgufPlan(GgufPreset Preset, long Bytes, IReadOnlyList<GgufFallback> Fallbacks)
{
    /// <summary>Size of the matrices, in bytes.</summary>
    internal long MatrixBytes { get; init; }

    /// <summary>
    /// A preset of similar size whose blocks fit the row lengths, if most of the file falls back to other types; otherwise null.
    /// </summary>
    public string? Suggestion
    {
        get
        {
            var fallen = Fallbacks.Sum(static f => f.Bytes);
            return Preset.KeepsOwn || 2 * fallen <= MatrixBytes || Fallbacks.Count == 0 ? null
                : Fallbacks.All(static f => f.Got is GgufType.F16) ? "f16"
                : Preset.Body is GgufType.Q2_K or GgufType.Q3_K or GgufType.Q4_K ? "q4_0" : "q8_0";
        }
    }
}

/// <summary>Tensors with another type than the preset's.</summary>
/// <param name="Wanted">The preset's type.</param>
/// <param name="Got">The actual type.</param>
/// <param name="Tensors">Number of tensors.</param>
/// <param name="Bytes">Their size in bytes.</param>
/// <param name="WantedBytes">Their size in bytes with the preset's type.</param>
/// <param name="RowLength">Row length of the first tensor.</param>
internal sealed record GgufFallback(GgufType Wanted, GgufType Got, int Tensors, long Bytes, long WantedBytes, long RowLength)
{
    /// <summary>Whether the row length is not a multiple of the type's block size; otherwise the type cannot be written.</summary>
    public bool IsOfLength => RowLength % Wanted.BlockLength() != 0;
}

/// <summary>Properties of a model that determine the types of its tensors.</summary>
/// <param name="Layers">Number of layers.</param>
/// <param name="Tied">Whether embedding and output head are tied.</param>
/// <param name="Experts">Number of experts per layer; 0 for none.</param>
/// <param name="IsOf70Billion">Whether llama.cpp treats it as a 70B model.</param>
/// <param name="QueriesPerKey">Number of query heads that share a key.</param>
internal sealed record GgufModelFacts(int Layers, bool Tied, int Experts = 0, bool IsOf70Billion = false, int QueriesPerKey = 1);
