using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Granite 4: Mamba 2 in most layers, attention in the others, and the factors of Granite; dense or with experts.</summary>
internal sealed class GraniteHybridGguf : HybridGguf
{
    private const string RotatesKey = "granitehybrid.rope.scaling.finetuned";
    private const string SharedWidth = "shared_intermediate_size";

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.GraniteMoeHybrid;

    /// <inheritdoc/>
    public override string Architecture => "granitehybrid";

    /// <inheritdoc/>
    public override bool PairsRotaryRows => true;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. MixtureKeys.WithoutFeedForward(base.Modules),
        .. MambaSection.Modules("mamba"),
        ("shared_mlp.input_linear", "ffn_gate"),
        ("shared_mlp.input_linear", "ffn_up"),
        ("shared_mlp.output_linear", "ffn_down"),
        ("shared_mlp.input_linear", "ffn_gate_shexp"),
        ("shared_mlp.input_linear", "ffn_up_shexp"),
        ("shared_mlp.output_linear", "ffn_down_shexp"),
        ("block_sparse_moe.router.layer", "ffn_gate_inp"),
        ("block_sparse_moe.output_linear", "ffn_down_exps"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => MambaSection.Tensors("mamba");

    /// <inheritdoc/>
    public override IReadOnlyList<GgufSplit> Splits => [new GateUpSplit("block_sparse_moe.input_linear.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight")];

    /// <inheritdoc/>
    public override bool IsOf(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return file.Metadata.Contains("granitehybrid.logit_scale");
    }

    /// <summary>The shared block is the only one in models without experts.</summary>
    /// <inheritdoc/>
    public override bool Has(string gguf, ConfigJson config) => GgufNames.Part(gguf) switch
    {
        "ffn_gate.weight" or "ffn_up.weight" or "ffn_down.weight" => Experts(config) == 0,
        "ffn_gate_shexp.weight" or "ffn_up_shexp.weight" or "ffn_down_shexp.weight" => Experts(config) > 0,
        _ => true,
    };

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (part, shared) = (GgufNames.Part(gguf), (int)config.Number(SharedWidth, 1024));
        return part switch
        {
            "ffn_gate.weight" or "ffn_gate_shexp.weight" => new GgufForm { Rows = GgufForm.Range(0, shared) },
            "ffn_up.weight" or "ffn_up_shexp.weight" => new GgufForm { Rows = GgufForm.Range(shared, shared) },
            _ => MambaSection.FormOf(part, config.Int("mamba_n_groups", 1)) ?? base.FormOf(gguf, config),
        };
    }

    /// <inheritdoc/>
    public override int Experts(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (int)config.Number("num_local_experts", Facts.Experts!.Count);
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        MambaSection.RefuseUnusual(config, "mamba_conv_bias", "mamba_proj_bias");
        MambaSection.RefuseLimits(config);
        RefuseBiases(config, "mlp_bias");
        var sizes = MambaSection.Sizes(config);
        MambaSection.RequireDouble(config, sizes);
        MambaSection.Write(sizes, metadata, Architecture);
        GraniteGguf.WriteMultipliers(config, metadata, Architecture);
        metadata.Add(RotatesKey, config.Text("position_embedding_type") == "rope");
        metadata.Add("granitehybrid.vocab_size", (uint)config.Int("vocab_size"));
        if (Experts(config) > 0)
        {
            metadata.Add("granitehybrid.expert_count", (uint)Experts(config));
            metadata.Add("granitehybrid.expert_used_count", (uint)config.Int("num_experts_per_tok", Facts.Experts!.PerToken));
            metadata.Add("granitehybrid.expert_shared_feed_forward_length", (uint)config.Number(SharedWidth, 1024));
        }
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        GraniteGguf.ReadMultipliers(file, config, Architecture);
        MambaSection.ReadSizes(file, Architecture, config);
        var experts = file.Metadata.Int("granitehybrid.expert_count") ?? 0;
        config["num_local_experts"] = experts;
        config["num_experts_per_tok"] = file.Metadata.Int("granitehybrid.expert_used_count") ?? 0;
        config[SharedWidth] = experts > 0 ? file.Metadata.Int("granitehybrid.expert_shared_feed_forward_length") ?? 0 : config["intermediate_size"]!.DeepClone();
        config["layer_types"] = ReadLayerTypes(file);
        config["position_embedding_type"] = file.Metadata.Flag(RotatesKey) ?? true ? "rope" : "nope";
        _ = config.Remove("head_dim");
        return config;
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<bool> Attends(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Attends(config, config.Has("layer_types") ? "layer_types" : "layers_block_type", static _ => false);
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return Experts(config) > 0 ? (uint)config.Int("intermediate_size") : (uint)config.Int(SharedWidth, 1024);
    }
}
