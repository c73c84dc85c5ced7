using OpenWeights.Formats.Gguf;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>What a GGUF file will hold, before it is written.</summary>
/// <param name="Preset">The types that were asked for.</param>
/// <param name="Bytes">The bytes of its tensors.</param>
/// <param name="Fallbacks">The tensors that get another type than the preset's, by both types.</param>
public sealed record GgufPlan(GgufPreset Preset, long Bytes, IReadOnlyList<GgufFallback> Fallbacks)
{
    /// <summary>The bytes of matrices.</summary>
    internal long MatrixBytes { get; init; }

    /// <summary>A preset of about the wanted size whose blocks fill the rows that there are, where most of the file falls back; else null.</summary>
    public string? Suggestion
    {
        get
        {
            var fallen = Fallbacks.Sum(static f => f.Bytes);
            return Preset.KeepsOwn || 2 * fallen <= MatrixBytes || Fallbacks.Count == 0 ? null
                : Fallbacks.All(static f => f.Got is GgufType.F16) ? "f16"
                : Preset.Body == GgufType.Q4_K ? "q4_0" : "q8_0";
        }
    }
}

/// <summary>Tensors that get another type than a preset's.</summary>
/// <param name="Wanted">The preset's.</param>
/// <param name="Got">The one that they get.</param>
/// <param name="Tensors">How many they are.</param>
/// <param name="Bytes">Their bytes.</param>
/// <param name="WantedBytes">The bytes that they would have had.</param>
/// <param name="RowLength">The length of the first one's rows.</param>
public sealed record GgufFallback(GgufType Wanted, GgufType Got, int Tensors, long Bytes, long WantedBytes, long RowLength)
{
    /// <summary>Whether the rows are no whole blocks of the wanted type; else it can only be read.</summary>
    public bool IsOfLength => RowLength % Wanted.BlockLength() != 0;
}

/// <summary>What of a model counts for the types of its tensors.</summary>
/// <param name="Layers">The number of layers.</param>
/// <param name="Tied">Whether the embedding is the output head too.</param>
/// <param name="Experts">The number of experts of a layer; 0 for none.</param>
/// <param name="IsOf70Billion">Whether llama.cpp takes it for a model of 70 billion parameters.</param>
public sealed record GgufModelFacts(int Layers, bool Tied, int Experts = 0, bool IsOf70Billion = false);
