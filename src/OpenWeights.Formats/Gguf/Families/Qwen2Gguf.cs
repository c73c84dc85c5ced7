using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Qwen 2 and 2.5.</summary>
public sealed class Qwen2Gguf : GgufFamily
{
    /// <inheritdoc/>
    public override string ModelType => "qwen2";

    /// <inheritdoc/>
    public override string ClassName => "Qwen2ForCausalLM";

    /// <inheritdoc/>
    public override string Architecture => "qwen2";

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        if (config.Flag("use_sliding_window"))
        {
            throw config.Error("use_sliding_window", "llama.cpp has no sliding window for Qwen 2, so the file would mean another model.");
        }

        if (HeadLength(config) * config.Int("num_attention_heads") != config.Int("hidden_size"))
        {
            throw config.Error("head_dim", "llama.cpp wants Qwen 2's heads to be as wide together as hidden_size.");
        }
    }
}
