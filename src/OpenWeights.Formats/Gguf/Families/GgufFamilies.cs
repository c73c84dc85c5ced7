namespace OpenWeights.Formats.Gguf.Families;

/// <summary>The families that GGUF can represent. To add one, add its file and a line here.</summary>
internal static class GgufFamilies
{
    private static readonly GgufFamily[] All =
    [
        // Of families that share an architecture, the first that recognizes a file is used.
        new MixtralGguf(), new InternLm3Gguf(), new LlamaGguf(), new HeliumGguf(), new MistralGguf(), new Qwen2Gguf(), new Qwen2MoeGguf(), new Qwen3Gguf(), new Qwen3MoeGguf(), new GemmaGguf(),
        new Gemma2Gguf(), new Gemma3Gguf(), new Phi3Gguf(), new GraniteGguf(), new Olmo3Gguf(), new Olmo2Gguf(), new SmolLm3Gguf(),
        new CohereGguf(), new Cohere2Gguf(), new StarCoder2Gguf(), new PhiGguf(), new StableLmGguf(), new ArceeGguf(), new SeedOssGguf(), new Ernie45Gguf(), new NemotronGguf(),
        new Glm4Gguf(), new HunYuanDenseGguf(), new Exaone4Gguf(), new Ministral3Gguf(),
        new OlmoeGguf(), new Glm4MoeGguf(), new SolarOpenGguf(), new Dots1Gguf(), new Ernie45MoeGguf(), new MiniMaxM2Gguf(), new AfmoeGguf(), new Hy3Gguf(), new GraniteMoeGguf(), new GraniteMoeSharedGguf(),
        new HunYuanMoeGguf(), new MellumGguf(), new MiMo2Gguf(), new Llama4Gguf(), new GptOssGguf(), new MiniCpm3Gguf(), new DeepSeekV2Gguf(), new DeepSeekV3Gguf(), new Glm4MoeLiteGguf(), new Mistral4Gguf(),
        new PhiMoeGguf(),
        new GlmGguf(), new GptNeoXGguf(), new ApertusGguf(), new Qwen25VisionGguf(), new Qwen3VisionGguf(),
        new Qwen3NextGguf(), new Qwen35Gguf(), new Qwen35MoeGguf(), new Lfm2Gguf(), new Lfm2MoeGguf(), new GraniteHybridGguf(), new BambaGguf(), new Mamba2Gguf(),
        new FalconH1Gguf(), new NemotronHGguf(), new NemotronHMoeGguf(), new JambaGguf(), new KimiLinearGguf(), new Gemma3nGguf(), new Gemma4Gguf(),
    ];

    /// <summary>The family of Hugging Face's model_type.</summary>
    /// <param name="modelType">The model_type.</param>
    /// <param name="location">The config.json, for messages.</param>
    /// <exception cref="InvalidDataException">It is none of these.</exception>
    public static GgufFamily OfModelType(string? modelType, string location) =>
        Array.Find(All, family => family.Facts.ModelType == modelType)
        ?? throw new InvalidDataException($"{location}: model_type: '{modelType}' cannot be written as GGUF; {string.Join(", ", All.Select(static f => f.Facts.ModelType).Distinct())} can. Export a merged folder instead.");

    /// <summary>The family of GGUF's general.architecture.</summary>
    /// <param name="file">The file.</param>
    /// <exception cref="InvalidDataException">It is none of these.</exception>
    public static GgufFamily Of(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var architecture = file.Metadata.Text("general.architecture");
        RequireSizes(file, architecture ?? "");
        return Array.Find(All, family => family.Architecture == architecture && family.IsOf(file))
            ?? throw file.Metadata.Error("general.architecture", $"'{architecture}' cannot be read; {string.Join(", ", All.Select(static f => f.Architecture).Distinct())} can.");
    }

    // These decide how much is made, or divide others; each layer has a tensor.
    private static void RequireSizes(GgufFile file, string architecture)
    {
        var metadata = file.Metadata;
        void Require(string key, Func<IReadOnlyList<int>, bool> holds, string wanted)
        {
            if (metadata.Ints($"{architecture}.{key}") is { } numbers && !(numbers.Count > 0 && holds(numbers)))
            {
                throw metadata.Error($"{architecture}.{key}", $"{wanted} is expected; {Wording.DamagedAdvice}");
            }
        }

        Require("block_count", numbers => numbers[0] >= 0 && numbers[0] <= file.Tensors.Count, "a number of layers that each have a tensor");

        // Models of state spaces alone say that they have no heads.
        Require("attention.head_count", numbers => numbers.Max() > 0 || architecture.StartsWith("mamba", StringComparison.Ordinal), "a number above zero");
        Require("feed_forward_length", static numbers => numbers.Max() >= 0, "a number");
        Require("embedding_length", static numbers => numbers[0] > 0, "a number above zero");
        Require("attention.head_count_kv", static numbers => numbers.Min() >= 0, "a number for each layer");
    }
}
