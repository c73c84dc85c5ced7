using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>The families by model_type. To add one, add its file and a line here.</summary>
internal static class FamilyRegistry
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
        new Lfm3Family(),

        // State space models and hybrids.
        new Mamba2Family(),
        new BambaFamily(),
        new FalconH1Family(),
        new GraniteMoeHybridFamily(),
        new NemotronHFamily(),
        new JambaFamily(),

        // Latent attention.
        new MiniCpm3Family(),
        new DeepSeekV2Family(),
        new DeepSeekV3Family(),
        new Glm4MoeLiteFamily(),
        new Mistral4Family(),

        // Gemma 3n and 4.
        new Gemma4TextFamily(),
        new Gemma3nTextFamily(),
    ];

    // Text models that exist only inside multimodal ones.
    private static readonly IModelFamily[] s_textParts = [new Qwen2Family(FamilyTable.Qwen25VisionText, 80), new Qwen3Family(FamilyTable.Qwen3VisionText)];

    /// <summary>The families, in registration order.</summary>
    public static IReadOnlyList<IModelFamily> All => s_families;

    /// <summary>The family of a model_type.</summary>
    /// <exception cref="InvalidDataException">The model_type is unknown.</exception>
    public static IModelFamily Find(string? modelType, string path) =>
        OfType(modelType)
        ?? throw new InvalidDataException(
            $"{path}: model_type: '{modelType}' is not a supported family; supported are {string.Join(", ", s_families.Select(static f => f.ModelType).Concat(FamilyTable.Multimodal.Where(static m => OfType(m.TextType) is not null).Select(static m => m.ModelType)))}.");

    /// <summary>Whether a config's model, or the text model inside it, is of a supported family.</summary>
    /// <param name="config">The config.json.</param>
    public static bool Knows(JsonObject config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return OfType((FamilyTable.FindMultimodal(config)?.TextConfig(config) ?? config)["model_type"]?.ToString()) is not null;
    }

    /// <summary>The decoder config described by a config.json; of a multimodal model, that of its text model.</summary>
    /// <exception cref="InvalidDataException">The family is unknown, or a setting is unknown or invalid.</exception>
    public static DecoderConfig Read(JsonObject config, string path)
    {
        ArgumentNullException.ThrowIfNull(config);
        var reader = new ConfigReader(config, path);
        QuantizedCheckpoint.Check(reader, config, path);
        return (FamilyTable.FindMultimodal(config) is { } whole ? ReadText(config, whole, reader, path) : ReadOne(reader, path)).With(LabelHead.Of(config, path));
    }

    private static DecoderConfig ReadText(JsonObject config, MultimodalFacts whole, ConfigReader outer, string path)
    {
        var (key, text) = (MultimodalFacts.TextKey(config), whole.TextConfig(config));
        var inner = key is null ? path : $"{path}: {key}";
        if (key is not null)
        {
            // Older versions wrote the text model's settings to both places.
            _ = outer.Has("tie_word_embeddings");
            outer.RefuseUnread(setting => MultimodalFacts.IsOther(setting) || text.ContainsKey(setting));
        }

        if (OfType(text["model_type"]!.ToString()) is null)
        {
            throw new InvalidDataException($"{inner}: model_type: '{text["model_type"]}', the text model of this {whole.ModelType}, is not a supported family.");
        }

        var reader = new ConfigReader(text, inner);
        QuantizedCheckpoint.Check(reader, text, path);
        var decoder = ReadOne(reader, inner);
        return decoder with { IsPart = true, TakesLabels = whole.ClassifierName is not null, Names = decoder.Names with { Stack = whole.Stack, Head = whole.Head } };
    }

    private static DecoderConfig ReadOne(ConfigReader reader, string path)
    {
        var decoder = Find(reader.Text("model_type"), path).Read(reader);
        reader.RefuseUnread();
        return decoder;
    }

    private static IModelFamily? OfType(string? modelType) => s_families.Concat(s_textParts).FirstOrDefault(f => f.ModelType == modelType);
}

/// <summary>A family of open-weight models: converts its config.json to a decoder config.</summary>
internal interface IModelFamily
{
    /// <summary>Names of the family and defaults of its settings.</summary>
    FamilyFacts Facts { get; }

    /// <summary>The model_type in its config.json.</summary>
    string ModelType => Facts.ModelType;

    /// <summary>The decoder config described by the config.json.</summary>
    /// <exception cref="InvalidDataException">A setting is missing, invalid, or not supported.</exception>
    DecoderConfig Read(ConfigReader config);

    /// <summary>The config.json of a new model of the family.</summary>
    /// <param name="shape">Sizes of the model.</param>
    JsonObject NewConfig(ModelShape shape);
}
