using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>The families by model_type. To add one, add its file and a line here.</summary>
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

        // Dense decoders.
        new ApertusFamily(),
        new ArceeFamily(),
        new CohereFamily(),
        new Cohere2Family(),
        new Ernie45Family(),
        new Exaone4Family(),
        new GlmFamily(),
        new Glm4Family(),
        new GptNeoXFamily(),
        new GraniteSwaFamily(),
        new HeliumFamily(),
        new HunYuanDenseFamily(),
        new InternLm3Family(),
        new Ministral3Family(),
        new NanoChatFamily(),
        new NemotronFamily(),
        new Olmo3Family(),
        new PhiFamily(),
        new SeedOssFamily(),
        new StableLmFamily(),
        new StarCoder2Family(),
        new VaultGemmaFamily(),

        // Mixtures of experts.
        new AfmoeFamily(),
        new Dots1Family(),
        new Ernie45MoeFamily(),
        new FlexOlmoFamily(),
        new Glm4MoeFamily(),
        new GptOssFamily(),
        new GraniteMoeFamily(),
        new GraniteMoeSharedFamily(),
        new HunYuanMoeFamily(),
        new Hy3Family(),
        new Llama4TextFamily(),
        new MellumFamily(),
        new MiMoV2FlashFamily(),
        new MiniMaxM2Family(),
        new OlmoeFamily(),
        new PhiMoeFamily(),
        new SolarOpenFamily(),

        // Linear attention and short convolutions.
        new Qwen35TextFamily(),
        new Qwen35MoeTextFamily(),
        new Qwen3NextFamily(),
        new OlmoHybridFamily(),
        new KimiLinearFamily(),
        new Lfm2Family(),
        new Lfm2MoeFamily(),

        // State space models and hybrids.
        new Mamba2Family(),
        new BambaFamily(),
        new FalconH1Family(),
        new GraniteMoeHybridFamily(),
        new NemotronHFamily(),
        new JambaFamily(),

        // Latent attention.
        new MiniCpm3Family(),

        // Gemma 3n and 4.

        // Multimodal models.
    ];

    /// <summary>The families, in registration order.</summary>
    public static IReadOnlyList<IModelFamily> All => s_families;

    /// <summary>The family of a model_type.</summary>
    /// <exception cref="InvalidDataException">The model_type is unknown.</exception>
    public static IModelFamily Find(string? modelType, string path) =>
        s_families.FirstOrDefault(f => f.ModelType == modelType)
        ?? throw new InvalidDataException(
            $"{path}: model_type: '{modelType}' is not a supported family; supported are {string.Join(", ", s_families.Select(static f => f.ModelType))}.");

    /// <summary>The decoder config described by a config.json.</summary>
    /// <exception cref="InvalidDataException">The family is unknown, or a setting is unknown or invalid.</exception>
    public static DecoderConfig Read(JsonObject config, string path)
    {
        var reader = new ConfigReader(config, path);
        QuantizedCheckpoint.Refuse(reader);
        var decoder = Find(reader.Text("model_type"), path).Read(reader);
        reader.RefuseUnread();
        return decoder;
    }
}
