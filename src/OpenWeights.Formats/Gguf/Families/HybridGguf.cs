using System.Text.Json.Nodes;
using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>Hybrids of attention with something else, whose layers of the other kind llama.cpp recognizes by their having no key/value heads.</summary>
internal abstract class HybridGguf : GgufFamily
{
    /// <summary>layer_types of a layer with attention.</summary>
    protected const string Full = "full_attention";

    /// <summary>layer_types of a layer with linear attention or a state space model.</summary>
    protected const string Linear = "linear_attention";

    /// <summary>Whether each layer is attention.</summary>
    /// <param name="config">The model's config.json.</param>
    protected abstract IReadOnlyList<bool> Attends(ConfigJson config);

    /// <inheritdoc/>
    protected override object KeyValueHeadCount(ConfigJson config)
    {
        var count = (uint)KeyValueHeads(config);
        return Attends(config).Select(attends => attends ? count : 0).ToArray();
    }

    /// <summary>Whether each layer is attention, from a setting that lists types.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="key">The setting.</param>
    /// <param name="usual">Which layers are if there is no list.</param>
    protected IReadOnlyList<bool> Attends(ConfigJson config, string key, Func<int, bool> usual)
    {
        ArgumentNullException.ThrowIfNull(config);
        return config.Texts(key) is { } types ? [.. types.Select(static t => t is Full or "attention")] : [.. Enumerable.Range(0, Layers(config)).Select(usual)];
    }

    /// <summary>Whether each layer of a file is attention.</summary>
    /// <param name="file">The GGUF file.</param>
    protected IReadOnlyList<bool> ReadAttends(GgufFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        var key = $"{Architecture}.attention.head_count_kv";
        var counts = file.Metadata.Ints(key) ?? throw file.Metadata.Error(key, "this key is missing.");
        var layers = file.Metadata.Int($"{Architecture}.block_count") ?? counts.Count;
        return counts.Count == 1 ? [.. Enumerable.Repeat(counts[0] > 0, layers)] : [.. counts.Select(static c => c > 0)];
    }

    /// <summary>layer_types for a file.</summary>
    /// <param name="file">The GGUF file.</param>
    /// <param name="other">The type of layers without attention.</param>
    protected JsonArray ReadLayerTypes(GgufFile file, string other = Linear) => [.. ReadAttends(file).Select(attends => (JsonNode)(attends ? Full : other))];
}
