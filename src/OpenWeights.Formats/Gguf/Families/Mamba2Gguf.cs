using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Mamba 2 and Codestral Mamba: layers of a Mamba 2 mixer alone.</summary>
internal sealed class Mamba2Gguf : GgufFamily
{
    private const string EpsilonKey = "mamba2.attention.layer_norm_rms_epsilon";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Mamba2;

    /// <inheritdoc/>
    public override string Architecture => "mamba2";

    /// <inheritdoc/>
    public override string FinalNorm => "backbone.norm_f";

    /// <inheritdoc/>
    protected override string Embedding => "backbone.embeddings";

    /// <inheritdoc/>
    protected override string LayerPrefix => "backbone.layers.";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules => [("norm", "attn_norm"), .. MambaSection.Modules("mixer")];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => MambaSection.Tensors("mixer");

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return MambaSection.FormOf(GgufNames.Part(gguf), config.Int("n_groups", 8)) ?? base.FormOf(gguf, config);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<(string Name, float[] Divisors)> RotaryTensors(ConfigJson config) => [];

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        MambaSection.RefuseUnusual(config, "use_conv_bias", "use_bias");
        MambaSection.RefuseLimits(config);
        var hidden = config.Int("hidden_size", 4096);
        metadata.Add("mamba2.context_length", (uint)Facts.MaxPositions);
        metadata.Add("mamba2.embedding_length", (uint)hidden);
        metadata.Add("mamba2.block_count", (uint)Layers(config));
        metadata.Add("mamba2.feed_forward_length", 0u);
        metadata.Add("mamba2.attention.head_count", 0u);
        metadata.Add(EpsilonKey, (float)config.Number("layer_norm_epsilon", Facts.NormEpsilon));
        var inner = (int)(config.Number("expand", 2) * hidden);
        MambaSection.Write(new MambaSizes(config.Int("conv_kernel", 4), inner, config.Int("state_size", 128), config.Int("num_heads", 128), config.Int("n_groups", 8)), metadata, Architecture);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var metadata = file.Metadata;
        int Int(string key) => metadata.Int($"mamba2.{key}") ?? throw metadata.Error($"mamba2.{key}", "this key is missing.");
        var (hidden, sizes) = (Int("embedding_length"), MambaSection.Read(file, Architecture));
        return new JsonObject
        {
            ["architectures"] = new JsonArray(Facts.ClassName),
            ["model_type"] = Facts.ModelType,
            ["hidden_size"] = hidden,
            ["num_hidden_layers"] = Int("block_count"),
            ["layer_norm_epsilon"] = Round(metadata.Number(EpsilonKey) ?? Facts.NormEpsilon),
            ["conv_kernel"] = sizes.Kernel,
            ["state_size"] = sizes.State,
            ["num_heads"] = sizes.Steps,
            ["head_dim"] = sizes.Inner / sizes.Steps,
            ["expand"] = (double)sizes.Inner / hidden,
            ["n_groups"] = sizes.Groups,
            ["use_bias"] = false,
            ["use_conv_bias"] = true,
            ["tie_word_embeddings"] = !file.Contains("output.weight"),
            ["vocab_size"] = file.GetTensor("token_embd.weight").Shape[0],
        };
    }

    /// <inheritdoc/>
    public override int Layers(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("num_hidden_layers", 64);
    }
}
