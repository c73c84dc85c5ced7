using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Qwen3-Next and Qwen 3.5: gated delta rule in most layers, gated attention in the others.</summary>
internal abstract class QwenHybridGguf : GgufFamily
{
    private const string Linear = "linear_attention";
    private const string Full = "full_attention";

    /// <inheritdoc/>
    public override float NormOffset => 1;

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules.Where(static m => m.HuggingFace != "post_attention_layernorm"),
        ("post_attention_layernorm", "post_attention_norm"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("linear_attn.conv1d", "ssm_conv1d"),
        ("linear_attn.norm", "ssm_norm"),
        ("linear_attn.out_proj", "ssm_out"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("linear_attn.A_log", "ssm_a"), ("linear_attn.dt_bias", "ssm_dt.bias")];

    /// <inheritdoc/>
    public override GgufForm FormOf(string gguf, ConfigJson config) => GgufNames.Part(gguf) switch
    {
        "ssm_a" => new GgufForm { IsNegativeExponential = true },
        "ssm_conv1d.weight" => new GgufForm { Shape = GgufShape.Convolution },

        // The norm of the linear attention's outputs does not add one to its weight.
        "ssm_norm.weight" => GgufForm.Same,
        _ => base.FormOf(gguf, config),
    };

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        base.WriteSettings(config, metadata);
        RefuseBiases(config, "attention_bias");
        var sizes = DeltaSizes.Of(config);
        if (sizes.KeyWidth != sizes.ValueWidth)
        {
            throw config.Error("linear_value_head_dim", "llama.cpp requires it to equal linear_key_head_dim.");
        }

        MambaSection.Write(new MambaSizes(sizes.Kernel, sizes.ValueHeads * sizes.ValueWidth, sizes.KeyWidth, sizes.ValueHeads, sizes.KeyHeads), metadata, Architecture);
        WriteLayers(config, metadata);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        var sizes = MambaSection.Read(file, Architecture);
        config["linear_conv_kernel_dim"] = sizes.Kernel;
        config["linear_key_head_dim"] = sizes.State;
        config["linear_value_head_dim"] = sizes.State;
        config["linear_num_value_heads"] = sizes.Steps;
        config["linear_num_key_heads"] = sizes.Groups;
        config["layer_types"] = new JsonArray([.. ReadLayers(file).Take(config["num_hidden_layers"]!.GetValue<int>()).Select(static isLinear => (JsonNode)(isLinear ? Linear : Full))]);
        return config;
    }

    // An interval where it says the same, because older versions of llama.cpp know nothing else.
    private void WriteLayers(ConfigJson config, GgufMetadata metadata)
    {
        var interval = config.Has("full_attention_interval") ? config.Int("full_attention_interval") : 4;
        if (config.Texts("layer_types") is { } types)
        {
            var first = types.ToList().IndexOf(Full) + 1;
            if (first == 0 || types.Where((type, i) => type == Full != ((i + 1) % first == 0)).Any())
            {
                metadata.Add($"{Architecture}.attention.recurrent_layers", types.Select(static t => t == Linear).ToArray());
                return;
            }

            interval = first;
        }

        metadata.Add($"{Architecture}.full_attention_interval", (uint)interval);
    }

    private IEnumerable<bool> ReadLayers(GgufFile file)
    {
        var interval = file.Metadata.Int($"{Architecture}.full_attention_interval") ?? 4;
        return file.Metadata.List<bool>($"{Architecture}.attention.recurrent_layers")
            ?? Enumerable.Range(0, file.Metadata.Int($"{Architecture}.block_count") ?? 0).Select(i => (i + 1) % interval != 0);
    }
}

/// <summary>Heads and widths of linear attention.</summary>
internal sealed record DeltaSizes(int KeyHeads, int ValueHeads, int KeyWidth, int ValueWidth, int Kernel)
{
    /// <summary>Heads of values that share a head of keys.</summary>
    internal int Repeats => KeyHeads == 0 ? 0 : ValueHeads / KeyHeads;

    internal static DeltaSizes Of(ConfigJson config) => new(
        config.Int("linear_num_key_heads", 16), config.Int("linear_num_value_heads", 32), config.Int("linear_key_head_dim", 128), config.Int("linear_value_head_dim", 128), config.Int("linear_conv_kernel_dim", 4));
}
