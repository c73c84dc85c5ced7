using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>The families by their model_type. A new one is a new file and a line here.</summary>
public static class FamilyRegistry
{
    private static readonly IModelFamily[] s_families =
    [
        new LlamaFamily(),
        new MistralFamily(),
        new MixtralFamily(),
        new Qwen2Family(),
        new Qwen2MoeFamily(),
        new Qwen3Family(),
        new Qwen3MoeFamily(),
        new GemmaFamily(),
        new Gemma2Family(),
        new Gemma3TextFamily(),
        new Phi3Family(),
        new GraniteFamily(),
        new Olmo2Family(),
        new SmolLm3Family(),
    ];

    /// <summary>The families, in the order of the registry.</summary>
    public static IReadOnlyList<IModelFamily> All => s_families;

    /// <summary>The family of a model_type.</summary>
    /// <exception cref="InvalidDataException">The model_type is not known.</exception>
    public static IModelFamily Find(string? modelType, string path) =>
        s_families.FirstOrDefault(f => f.ModelType == modelType)
        ?? throw new InvalidDataException(
            $"{path}: model_type: '{modelType}' is not a family this version knows; known are {string.Join(", ", s_families.Select(static f => f.ModelType))}.");

    /// <summary>The decoder that a config.json asks for.</summary>
    /// <exception cref="InvalidDataException">The family or a setting is not known or wrong.</exception>
    public static DecoderConfig Read(JsonObject config, string path)
    {
        var reader = new ConfigReader(config, path);
        QuantizedCheckpoint.Refuse(reader);
        var decoder = Find(reader.Text("model_type"), path).Read(reader);
        reader.RefuseUnread();
        return decoder;
    }
}
