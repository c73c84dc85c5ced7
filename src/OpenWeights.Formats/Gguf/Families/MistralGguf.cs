using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Mistral, which llama.cpp runs as llama. It has no word for Mistral 0.1's sliding window.</summary>
public sealed class MistralGguf : GgufFamily
{
    /// <inheritdoc/>
    public override string ModelType => "mistral";

    /// <inheritdoc/>
    public override string ClassName => "MistralForCausalLM";

    /// <inheritdoc/>
    public override string Architecture => "llama";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        if (config.Has("sliding_window") && config.Number("sliding_window") < config.Int("max_position_embeddings"))
        {
            throw config.Error("sliding_window", "llama.cpp has no sliding window for Mistral, so the file would mean another model; set it to null if you mean full attention.");
        }

        LlamaGguf.WriteLlamaSettings(config, metadata);
    }
}
