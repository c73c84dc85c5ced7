using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>ERNIE 4.5 with experts: interleaved rotary embedding, and a softmax router whose choice is corrected.</summary>
internal sealed class Ernie45MoeGguf : GgufFamily
{
    private const string Correction = "exp_probs_b.bias";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Ernie45Moe;

    /// <inheritdoc/>
    public override string Architecture => "ernie4_5-moe";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules => [.. base.Modules, ("mlp.gate", "ffn_gate_inp"), .. MixtureKeys.Experts(), .. MixtureKeys.Shared()];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mlp.moe_statics.e_score_correction_bias", Correction)];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config) => GgufNames.Part(gguf) == Correction ? new GgufForm { Shape = GgufShape.Router } : base.FormOf(gguf, config);

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("moe_num_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "use_bias");
        var last = config.Number("moe_layer_end_index", -1);
        MixtureKeys.Require(config, "moe_layer_interval", config.Int("moe_layer_interval", 1) == 1, "a mixture in every layer after the first");
        MixtureKeys.Require(config, "moe_layer_end_index", last == -1 || last >= config.Int("num_hidden_layers") - 1, "mixtures up to the last layer");
        var inner = MixtureKeys.Inner(config, Facts);
        var shared = (int)config.Number("moe_num_shared_experts", Facts.Experts!.SharedCount);
        MixtureKeys.Write(this, config, metadata, config.Int("moe_k", Facts.Experts.PerToken), inner);
        metadata.Add("ernie4_5-moe.expert_shared_count", (uint)shared);
        metadata.Add("ernie4_5-moe.expert_shared_feed_forward_length", (uint)(shared * inner));
        metadata.Add("ernie4_5-moe.interleave_moe_layer_step", 1u);
        metadata.Add("ernie4_5-moe.leading_dense_block_count", (uint)config.Number("moe_layer_start_index", 1));
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        _ = config.Remove("attention_bias");
        var inner = MixtureKeys.Inner(this, file);
        config["moe_num_experts"] = MixtureKeys.Int(this, file, "expert_count");
        config["moe_k"] = MixtureKeys.Int(this, file, "expert_used_count");
        config["moe_intermediate_size"] = inner;
        config["moe_num_shared_experts"] = (file.Metadata.Int("ernie4_5-moe.expert_shared_feed_forward_length") ?? 0) / inner;
        config["moe_layer_interval"] = 1;
        config["moe_layer_start_index"] = MixtureKeys.SparseLayers(this, file).TakeWhile(static sparse => !sparse).Count();
        config["moe_layer_end_index"] = -1;
        return config;
    }
}
