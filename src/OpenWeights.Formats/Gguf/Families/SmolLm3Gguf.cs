using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>SmolLM 3: Llama without rotary embedding in every fourth layer.</summary>
internal sealed class SmolLm3Gguf : GgufFamily
{
    private const int Interval = 4;

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.SmolLm3;

    /// <inheritdoc/>
    public override string Architecture => "smollm3";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        base.WriteSettings(config, metadata);
        LlamaGguf.WriteLlamaSettings(config, metadata, this);
        RefuseWindows(config);
        RequireUsualHeads(config);
        RefuseBiases(config, "attention_bias", "mlp_bias");
        var usual = config.Numbers("no_rope_layers") is { } listed
            ? listed.Take(config.Int("num_hidden_layers")).Select(static (rotates, layer) => rotates != 0 == ((layer + 1) % Interval != 0)).All(static same => same)
            : config.Int("no_rope_layer_interval", Interval) == Interval;
        if (!usual)
        {
            throw config.Error("no_rope_layers", "llama.cpp omits the rotary embedding in exactly every fourth layer, so the result would differ from the model.");
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        var config = base.ReadSettings(file);
        config["no_rope_layer_interval"] = Interval;
        config["use_sliding_window"] = false;
        return config;
    }
}
