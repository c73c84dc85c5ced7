using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>
/// Which type each tensor of a file gets, as llama.cpp's converter (plain types and Q8_0) and its quantiser without an importance
/// matrix (the others) choose it (<see href="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp"/>).
/// </summary>
public sealed record GgufPreset
{
    private static readonly GgufPreset[] s_all =
    [
        new("f32", 0, GgufType.F32),
        new("f16", 1, GgufType.F16),
        new("bf16", 32, GgufType.BF16),
        new("q8_0", 7, GgufType.Q8_0),
        new("q4_0", 2, GgufType.Q4_0),
        new("q4_k_m", 15, GgufType.Q4_K),
        new("q6_k", 18, GgufType.Q6_K),
    ];

    private GgufPreset(string name, uint fileType, GgufType body)
    {
        Name = name;
        FileType = fileType;
        Body = body;
    }

    /// <summary>The names, as they stand on the command line.</summary>
    public static IReadOnlyList<string> Names => [.. s_all.Select(static p => p.Name)];

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>GGUF's general.file_type.</summary>
    public uint FileType { get; }

    /// <summary>The type of most tensors.</summary>
    public GgufType Body { get; }

    /// <summary>The preset of a name.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <exception cref="ArgumentException">There is none.</exception>
    public static GgufPreset Of(string name) =>
        Array.Find(s_all, p => p.Name == name) ?? throw new ArgumentException($"'{name}' is not possible in GGUF; possible are {string.Join(", ", Names)}.", nameof(name));

    /// <summary>The type of a tensor.</summary>
    /// <param name="name">Its name in GGUF.</param>
    /// <param name="shape">Its shape.</param>
    /// <param name="layers">The model's number of layers.</param>
    /// <param name="tied">Whether the embedding is the output head too.</param>
    public GgufType TypeOf(string name, IReadOnlyList<long> shape, int layers, bool tied)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(shape);
        if (shape.Count < 2 || GgufFamily.IsNorm(name))
        {
            return GgufType.F32;
        }

        return Fitting(Wanted(name, shape[^1], layers, tied), shape[^1]);
    }

    private GgufType Wanted(string name, long rowLength, int layers, bool tied)
    {
        if (Body is not (GgufType.Q4_0 or GgufType.Q4_K))
        {
            return Body;
        }

        if (name == "output.weight" || (tied && name == "token_embd.weight"))
        {
            return rowLength % Body.BlockLength() == 0 ? GgufType.Q6_K : GgufType.Q8_0;
        }

        var parts = name.Split('.');
        return Body == GgufType.Q4_K && parts is ["blk", var layer, "attn_v" or "ffn_down", "weight"] && DeservesMore(int.Parse(layer, System.Globalization.CultureInfo.InvariantCulture), layers)
            ? GgufType.Q6_K
            : Body;
    }

    // llama.cpp's use_more_bits: the first and the last eighth of the layers, and every third between.
    private static bool DeservesMore(int layer, int layers) => layer < layers / 8 || layer >= 7 * layers / 8 || (layer - (layers / 8)) % 3 == 2;

    private static GgufType Fitting(GgufType type, long rowLength)
    {
        while (rowLength % type.BlockLength() != 0)
        {
            type = type switch
            {
                GgufType.Q4_K => GgufType.Q5_0,
                GgufType.Q6_K => GgufType.Q8_0,
                _ => GgufType.F16,
            };
        }

        return type;
    }
}
