using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>
/// Selects the type of each tensor in a file, as llama.cpp's converter (plain types and Q8_0) and its quantizer without an importance
/// matrix (all others) do (<see href="https://github.com/ggml-org/llama.cpp/blob/master/src/llama-quant.cpp"/>).
/// </summary>
internal sealed record GgufPreset
{
    private static readonly GgufPreset[] s_all =
    [
        new("f32", 0, GgufType.F32),
        new("f16", 1, GgufType.F16),
        new("bf16", 32, GgufType.BF16),
        new("q8_0", 7, GgufType.Q8_0),
        new("q4_0", 2, GgufType.Q4_0),
        new("q4_k_m", 15, GgufType.Q4_K),
        new("q2_k", 10, GgufType.Q2_K),
        new("q3_k_m", 12, GgufType.Q3_K),
        new("q5_k_s", 16, GgufType.Q5_K),
        new("q5_k_m", 17, GgufType.Q5_K),
        new("q6_k", 18, GgufType.Q6_K),
        new("mxfp4_moe", 38, GgufType.MXFP4),
    ];

    // What llama.cpp's quantizer leaves as it is.
    private static readonly string[] s_unquantized = ["altup", "laurel", "per_layer_model_proj"];

    private readonly IReadOnlyDictionary<string, GgufType>? _own;

    private GgufPreset(string name, uint fileType, GgufType body)
    {
        Name = name;
        FileType = fileType;
        Body = body;
    }

    /// <summary>The names used on the command line.</summary>
    public static IReadOnlyList<string> Names => [.. s_all.Select(static p => p.Name)];

    /// <summary>The name.</summary>
    public string Name { get; }

    /// <summary>Value of GGUF's general.file_type.</summary>
    public uint FileType { get; }

    /// <summary>Type of most tensors.</summary>
    public GgufType Body { get; }

    /// <summary>The preset of a given name.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <exception cref="ArgumentException">The name is unknown.</exception>
    public static GgufPreset Of(string name) =>
        Array.Find(s_all, p => p.Name == name) ?? throw new ArgumentException($"'{name}' is not a GGUF type; valid are {string.Join(", ", Names)}.", nameof(name));

    /// <summary>The types of an existing file, tensor by tensor.</summary>
    /// <param name="file">The file.</param>
    public static GgufPreset OfFile(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var body = file.Tensors.Where(static t => t.Shape.Count > 1).GroupBy(static t => t.Type).MaxBy(static g => g.Sum(static t => t.ByteLength))?.Key ?? GgufType.F32;
        return new GgufPreset(NameOf(body), (uint)(file.Metadata.Int("general.file_type") ?? 0), body, file.Tensors.ToDictionary(static t => t.Name, static t => t.Type));
    }

    private GgufPreset(string name, uint fileType, GgufType body, IReadOnlyDictionary<string, GgufType> own)
        : this(name, fileType, body) => _own = own;

    /// <summary>Whether the types are those of the base model's file; unchanged tensors are copied from there.</summary>
    public bool KeepsOwn => _own is not null;

    /// <summary>Name of a type in common notation.</summary>
    public static string NameOf(GgufType type) => type.ToString().ToLowerInvariant();

    /// <summary>The type of a tensor.</summary>
    /// <param name="name">Its name in GGUF.</param>
    /// <param name="shape">Its shape in GGUF.</param>
    /// <param name="model">Properties of the model.</param>
    public GgufType TypeOf(string name, IReadOnlyList<long> shape, GgufModelFacts model)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(shape);
        ArgumentNullException.ThrowIfNull(model);
        return WantedOf(name, shape, model) is { } wanted ? Fitting(wanted, shape[^1]) : GgufType.F32;
    }

    /// <summary>
    /// The type of a tensor, regardless of row length and of which types can be written; null for tensors that are float32 in every preset.
    /// </summary>
    /// <param name="name">Its name in GGUF.</param>
    /// <param name="shape">Its shape in GGUF.</param>
    /// <param name="model">Properties of the model.</param>
    internal GgufType? WantedOf(string name, IReadOnlyList<long> shape, GgufModelFacts model) =>
        shape.Count < 2 || !name.EndsWith(".weight", StringComparison.Ordinal) || GgufFamily.IsFloat32(name) ? null : Wanted(name, shape, model);

    private GgufType Wanted(string name, IReadOnlyList<long> shape, GgufModelFacts model)
    {
        var rowLength = shape[^1];
        if (_own is not null)
        {
            return _own.GetValueOrDefault(name, Body);
        }

        if (Body == GgufType.MXFP4)
        {
            // Matrices of experts (and of heads) alone, and the others in eight bits.
            return shape.Count > 2 && shape[0] > 1 ? GgufType.MXFP4 : GgufType.Q8_0;
        }

        if (Body is GgufType.F32 or GgufType.F16 or GgufType.BF16 or GgufType.Q8_0)
        {
            return Body;
        }

        if (Array.Exists(s_unquantized, part => name.Contains(part, StringComparison.Ordinal)))
        {
            return GgufType.F16;
        }

        if (name == "output.weight" || (model.Tied && name == "token_embd.weight"))
        {
            return rowLength % Body.BlockLength() == 0 ? GgufType.Q6_K : GgufType.Q8_0;
        }

        if (name.Split('.') is not ["blk", var number, var part, "weight"])
        {
            return Body;
        }

        var layer = int.Parse(number, System.Globalization.CultureInfo.InvariantCulture);
        return part switch
        {
            // In models of eight experts these tensors are shared by all, and small compared with the experts.
            "attn_k" or "attn_v" or "attn_qkv" when model.Experts == 8 => GgufType.Q8_0,
            "attn_v" or "attn_qkv" => OfValues(layer, model),
            "ffn_down" or "ffn_down_exps" or "ffn_down_shexp" => OfDown(layer, model),
            "attn_output" when model.Experts == 8 => Body is GgufType.Q2_K or GgufType.Q3_K or GgufType.Q4_K ? GgufType.Q5_K : Body,
            "attn_output" => Body switch { GgufType.Q2_K => GgufType.Q3_K, GgufType.Q3_K => GgufType.Q4_K, _ => Body },
            _ => Body,
        };
    }

    private GgufType OfValues(int layer, GgufModelFacts model)
    {
        var type = Name switch
        {
            "q2_k" => model.QueriesPerKey >= 4 ? GgufType.Q4_K : GgufType.Q3_K,
            "q3_k_m" => layer < 2 ? GgufType.Q5_K : GgufType.Q4_K,
            "q4_k_m" or "q5_k_m" when DeservesMore(layer, model.Layers) => GgufType.Q6_K,
            _ => Body,
        };
        return model.IsOf70Billion && (type is GgufType.Q3_K or GgufType.Q4_K) ? GgufType.Q5_K : type;
    }

    private GgufType OfDown(int layer, GgufModelFacts model) => Name switch
    {
        "q2_k" => GgufType.Q3_K,
        "q3_k_m" => layer < model.Layers / 16 ? GgufType.Q5_K : GgufType.Q4_K,
        "q4_k_m" or "q5_k_m" when DeservesMore(layer, model.Layers) => GgufType.Q6_K,
        _ => Body,
    };

    // llama.cpp's use_more_bits: the first and last eighth of the layers, and every third layer between.
    private static bool DeservesMore(int layer, int layers) => layer < layers / 8 || layer >= 7 * layers / 8 || (layer - (layers / 8)) % 3 == 2;

    private static GgufType Fitting(GgufType type, long rowLength)
    {
        // Some types can only be read.
        if (!OpenWeights.Formats.Gguf.Blocks.BlockEncoder.Supports(type))
        {
            type = GgufType.Q4_K;
        }

        while (rowLength % type.BlockLength() != 0)
        {
            type = type switch
            {
                GgufType.Q2_K or GgufType.Q3_K => GgufType.Q4_0,
                GgufType.Q4_K => GgufType.Q5_0,
                GgufType.Q5_K => GgufType.Q5_1,
                GgufType.Q6_K => GgufType.Q8_0,
                _ => GgufType.F16,
            };
        }

        return type;
    }
}
