using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Gemma 3n's text models: several residual streams, and residual layers beside attention. llama.cpp has most of their sizes in its code.</summary>
internal sealed class Gemma3nGguf : LateGemmaGguf
{
    private const int LayersWithKeys = 20;
    private const int SparseLayers = 10;
    private const double Sparsity = 0.95;

    private static readonly (string Setting, double Value)[] s_fixed =
    [
        ("altup_num_inputs", 4), ("altup_active_idx", 0), ("laurel_rank", 64), ("hidden_size_per_layer_input", 256), ("final_logit_softcapping", 30),
    ];

    /// <inheritdoc/>
    public override FamilyFacts Facts => FamilyTable.Gemma3nText;

    /// <inheritdoc/>
    public override string Architecture => "gemma3n";

    /// <inheritdoc/>
    public override IReadOnlyList<string> ModulesWithoutLora => [.. base.ModulesWithoutLora, "altup_proj", "altup_unembd_proj", "altup_router"];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> OuterModules =>
        [.. base.OuterModules, ("model.altup_projections.*", "altup_proj"), ("model.altup_unembed_projections.*", "altup_unembd_proj")];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Modules =>
    [
        .. base.Modules,
        ("altup.correction_coefs", "altup_correct_coef"),
        ("altup.prediction_coefs", "altup_predict_coef"),
        ("altup.modality_router", "altup_router"),
        ("altup.router_norm", "altup_router_norm"),
        ("laurel.linear_left", "laurel_l"),
        ("laurel.linear_right", "laurel_r"),
        ("laurel.post_laurel_norm", "laurel_post_norm"),
    ];

    /// <inheritdoc/>
    public override IReadOnlyList<(string HuggingFace, string Gguf)> Tensors => [("altup.correct_output_scale", "altup_correct_scale.weight")];

    /// <inheritdoc/>
    public override IReadOnlyList<(string Name, IReadOnlyList<long> Shape)> UnusedTensors(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        long[] shape = [(long)KeyValueHeads(config) * HeadLength(config), config.Int("hidden_size")];
        (string Name, IReadOnlyList<long> Shape)[] tensors = [("attn_k.weight", shape), ("attn_v.weight", shape), ("attn_k_norm.weight", [HeadLength(config)])];
        return [.. Enumerable.Range(LayersWithKeys, Shared(config)).SelectMany(layer => tensors.Select(t => ($"blk.{layer}.{t.Name}", t.Shape)))];
    }

    /// <inheritdoc/>
    public override void WriteSettings(ConfigJson config, GgufMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(metadata);
        foreach (var (setting, value) in s_fixed)
        {
            if (config.IsNull(setting) || config.Number(setting, value) != value)
            {
                throw config.Error(setting, FormattableString.Invariant($"llama.cpp assumes {value} for this family, so the result would differ from the model."));
            }
        }

        if (config.Has("altup_correct_scale") && !config.Flag("altup_correct_scale"))
        {
            throw config.Error("altup_correct_scale", "llama.cpp assumes true for this family, so the result would differ from the model.");
        }

        var layers = Layers(config);
        if (layers - Shared(config) != LayersWithKeys)
        {
            throw config.Error("num_kv_shared_layers", $"llama.cpp assumes {LayersWithKeys} layers with keys and values of their own, so the result would differ from the model.");
        }

        RequireLayerTypes(config, static layer => (layer + 1) % 5 != 0);
        if (config.Numbers("activation_sparsity_pattern") is { } shares && shares.Where((share, layer) => share != (layer < SparseLayers ? Sparsity : 0)).Any())
        {
            throw config.Error("activation_sparsity_pattern", FormattableString.Invariant($"llama.cpp assumes {Sparsity} in the first {SparseLayers} layers and 0 in the others."));
        }

        WriteLateSettings(config, metadata);
    }

    /// <inheritdoc/>
    public override JsonObject ReadSettings(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var config = base.ReadSettings(file);
        var layers = config["num_hidden_layers"]!.GetValue<int>();
        ReadLateSettings(file, config, [.. Enumerable.Range(0, layers).Select(static i => (i + 1) % 5 != 0)]);
        foreach (var (setting, value) in s_fixed)
        {
            config[setting] = value;
        }

        config["altup_correct_scale"] = true;
        config["num_kv_shared_layers"] = layers - LayersWithKeys;
        config["activation_sparsity_pattern"] = new JsonArray([.. Enumerable.Range(0, layers).Select(static i => (JsonNode)(i < SparseLayers ? Sparsity : 0.0))]);
        _ = config.Remove("hidden_act");
        return config;
    }

    /// <inheritdoc/>
    protected override IReadOnlyList<bool> Slides(ConfigJson config) => Slides(config, static layer => (layer + 1) % 5 != 0);

    /// <inheritdoc/>
    protected override int Shared(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return (int)config.Number("num_kv_shared_layers", 15);
    }

    /// <inheritdoc/>
    protected override object FeedForwardLength(ConfigJson config)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Numbers("intermediate_size") is not { } widths ? (uint)config.Int("intermediate_size", 16384)
            : widths.Distinct().Count() == 1 ? (uint)widths[0]
            : throw config.Error("intermediate_size", "llama.cpp requires feed-forward blocks of one width for this family.");
    }
}
