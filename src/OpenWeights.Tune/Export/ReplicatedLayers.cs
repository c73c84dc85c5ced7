using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Export;

/// <summary>
/// The base of an adapter with layer_replication as a model of its own: the layers that the adapter stacks are written one after the other, and config.json
/// counts them.
/// </summary>
internal sealed class ReplicatedLayers : IDisposable
{
    private ReplicatedLayers(CheckpointWeights weights, JsonObject config) => (Weights, Config) = (weights, config);

    /// <summary>The weights, with the layers under their new numbers.</summary>
    internal CheckpointWeights Weights { get; }

    /// <summary>The config.json.</summary>
    internal JsonObject Config { get; }

    /// <summary>The settings of the text model in it.</summary>
    internal JsonObject TextConfig => FamilyTable.FindMultimodal(Config)?.TextConfig(Config) ?? Config;

    /// <summary>The base that adapters are merged into, if one of them stacks layers; otherwise null.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="weights">Its weights; they must stay open.</param>
    /// <param name="adapters">The adapters.</param>
    /// <exception cref="InvalidDataException">The family's config.json cannot say such an order of layers.</exception>
    internal static ReplicatedLayers? Of(ModelFolder folder, CheckpointWeights weights, CombinedAdapter adapters)
    {
        if (adapters.LayerOrder is not { } order)
        {
            return null;
        }

        var (own, config) = (ModelLoader.ReadConfig(folder), folder.Config.DeepClone().AsObject());
        Reorder(TextOf(config), own.LayerCount, order);
        var stacked = FamilyRegistry.Read(config, folder.FolderPath);
        for (var i = 0; i < order.Count; i++)
        {
            if (stacked.LayerCount != order.Count || stacked.LayerSettings(i).ToString() != own.LayerSettings(order[i]).ToString())
            {
                throw new InvalidDataException($"layer_replication: in {own.ModelType} the number of a layer decides what it is, and layer {i} of the stacked model would not be what layer {order[i]} of the base is; it cannot be merged. Export it with --format peft.");
            }
        }

        var copies = weights.WithLayers($"{own.Names.Stack}.{own.Names.Layers}", order);
        try
        {
            WeightCheck.Run(copies, stacked);
            return new ReplicatedLayers(copies, config);
        }
        catch
        {
            copies.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Weights.Dispose();

    // Where config.json has the settings of the text model.
    private static JsonObject TextOf(JsonObject config) => FamilyTable.FindMultimodal(config) is not null && MultimodalFacts.TextKey(config) is { } key ? config[key]!.AsObject() : config;

    // The number of layers, and the lists that have an entry for each of them.
    private static void Reorder(JsonObject text, int layers, IReadOnlyList<int> order)
    {
        foreach (var (key, value) in text.Where(static p => p.Key.Contains("layer", StringComparison.Ordinal)).ToList())
        {
            if (value is JsonArray list && list.Count == layers)
            {
                text[key] = new JsonArray([.. order.Select(i => list[i]?.DeepClone())]);
            }
            else if (value is JsonValue number && key.Contains("num", StringComparison.Ordinal) && number.TryGetValue<int>(out var count) && count == layers)
            {
                text[key] = order.Count;
            }
        }
    }
}
