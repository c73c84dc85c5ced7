using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Families with latent attention and mixtures of experts, as llama.cpp knows them since DeepSeek-V2.</summary>
internal abstract class DeepSeekGguf : LatentGguf
{
    /// <inheritdoc/>
    public override string Architecture => "deepseek2";

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules => [.. base.Modules, ("mlp.gate", "ffn_gate_inp"), .. MixtureKeys.Experts(), .. MixtureKeys.Shared()];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mlp.gate.e_score_correction_bias", "exp_probs_b.bias")];

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSplit> Splits => [new LatentSplit("self_attn.kv_b_proj.weight", "attn_k_b.weight", "attn_v_b.weight")];

    /// <summary>first_k_dense_replace if the config has none.</summary>
    protected abstract int DenseLayers { get; }

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Int("n_routed_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        var layers = config.Int("num_hidden_layers");
        if (QueryRank(config) is not null && (layers is 26 or 27 || (layers == 48 && config.Int("vocab_size") == 128256)))
        {
            throw config.Error("q_lora_rank", "llama.cpp takes models of this number of layers for ones without it.");
        }

        MixtureKeys.Require(config, "rope_interleave", MixtureKeys.Flag(config, "rope_interleave", true), "rotated pairs that are neighbours");
        metadata.Add($"{Architecture}.vocab_size", (uint)config.Int("vocab_size"));
        MixtureKeys.Write(this, config, metadata, MixtureKeys.PerToken(config, Facts), MixtureKeys.Inner(config, Facts));
        MixtureKeys.WriteShared(this, config, metadata);
        MixtureKeys.WriteDense(this, config, metadata, (int)config.Number("first_k_dense_replace", DenseLayers));
        WriteRouter(config, metadata);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        MixtureKeys.ReadSigmoidMixture(this, file, config);
        config["first_k_dense_replace"] = MixtureKeys.SparseLayers(this, file).TakeWhile(static sparse => !sparse).Count();
        return config;
    }

    /// <summary>Writes how scores become weights.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="metadata">Destination.</param>
    protected virtual void WriteRouter(ConfigJson config, GgufMetadata metadata) => MixtureKeys.WriteSigmoidRouter(this, config, metadata);
}

/// <summary>DeepSeek-V3, and models of its architecture such as Moonlight.</summary>
internal sealed class DeepSeekV3Gguf : DeepSeekGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.DeepSeekV3;

    /// <inheritdoc/>
    protected override int DenseLayers => 3;

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => file?.Metadata.Int("deepseek2.expert_gating_func") == (int)GatingFunction.Sigmoid;
}

/// <summary>GLM 4.7 Flash, which llama.cpp runs as DeepSeek-V3; read, a file of it is one of those.</summary>
internal sealed class Glm4MoeLiteGguf : DeepSeekGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Glm4MoeLite;

    /// <inheritdoc/>
    protected override int DenseLayers => 1;

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => false;
}

/// <summary>DeepSeek-V2: softmax scores.</summary>
internal sealed class DeepSeekV2Gguf : DeepSeekGguf
{
    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.DeepSeekV2;

    /// <inheritdoc/>
    protected override int DenseLayers => 0;

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file) => file?.Metadata.Int("deepseek2.expert_gating_func") is not (int)GatingFunction.Sigmoid;

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        if ((file.Metadata.Int("deepseek2.expert_group_count") ?? 1) > 1)
        {
            throw file.Metadata.Error("deepseek2.expert_group_count", "groups of experts with softmax scores cannot be read.");
        }

        _ = (config.Remove("n_group"), config.Remove("topk_group"));
        config["topk_method"] = "greedy";
        return config;
    }

    /// <inheritdoc/>
    protected override void WriteRouter(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (groups, chosen) = MixtureKeys.Groups(this, config);
        MixtureKeys.Require(config, "topk_method", config.Text("topk_method") is null or "greedy" || groups == 1 || chosen >= groups, "groups by the sum of their two best experts, and not by the best,");
        MixtureKeys.WriteRouter(this, metadata, GatingFunction.Softmax, config.Flag("norm_topk_prob"), config.Number("routed_scaling_factor", 1));
    }
}

/// <summary>Mistral 4: latent attention with queries whose factor grows with their position.</summary>
internal sealed class Mistral4Gguf : DeepSeekGguf
{
    private const string Beta = "llama_4_scaling_beta";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Mistral4;

    /// <inheritdoc/>
    public override string Architecture => "mistral4";

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSplit> Splits =>
    [
        .. base.Splits,
        new GateUpSplit("mlp.experts.gate_up_proj", "ffn_gate_exps.weight", "ffn_up_exps.weight"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules => [.. base.Modules.Where(static m => !m.HuggingFace.Contains('*', StringComparison.Ordinal))];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("mlp.experts.down_proj", "ffn_down_exps.weight")];

    /// <inheritdoc/>
    protected override int DenseLayers => 0;

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        var scaling = RopeScaling.Scaling(config) ?? throw config.Error("rope_parameters", "it is missing; transformers would take YaRN with a factor of 128, so copy it from the model's own config.json.");
        if (scaling.Number(Beta, 0) is var beta and not 0)
        {
            metadata.Add("mistral4.attention.temperature_scale", (float)beta);
            metadata.Add("mistral4.attention.temperature_length", (uint)scaling.Int("original_max_position_embeddings", config.Int("max_position_embeddings", Facts.MaxPositions)));
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        var rule = config["rope_scaling"] as JsonObject ?? new JsonObject { ["rope_type"] = "default" };
        rule["rope_theta"] = config["rope_theta"]!.DeepClone();
        if (file.Metadata.Number("mistral4.attention.temperature_scale") is { } beta)
        {
            rule[Beta] = Round(beta);
            rule["original_max_position_embeddings"] ??= MixtureKeys.Int(this, file, "attention.temperature_length");
        }

        _ = (config.Remove("rope_scaling"), config.Remove("rope_theta"));
        config["rope_parameters"] = rule;
        return config;
    }

    /// <inheritdoc/>
    protected override void WriteRouter(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        MixtureKeys.WriteRouter(this, metadata, GatingFunction.Softmax, MixtureKeys.Flag(config, "norm_topk_prob", Facts.Experts!.Normalizes), config.Number("routed_scaling_factor", 1));
        MixtureKeys.WriteGroups(this, config, metadata);
    }
}
