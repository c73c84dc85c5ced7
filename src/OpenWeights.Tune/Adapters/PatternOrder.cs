using System.Text.Json;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Values by pattern, such as rank_pattern, of which the first that matches a module counts. adapter_config.json has the keys sorted, as PEFT writes them, so
/// that another may be the first when it is read: where that is so, the patterns are replaced by the names of the modules.
/// </summary>
internal static class PatternOrder
{
    /// <summary>The settings, with patterns that give the same in any order.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <param name="source">The adapter_config.json that they were read from, which is changed alike; null for none.</param>
    internal static AdapterConfig Settled(CausalLanguageModel model, AdapterConfig config, JsonObject? source = null)
    {
        var settled = config;
        foreach (var property in config.GetType().GetProperties())
        {
            object? changed = property.GetValue(config) switch
            {
                IReadOnlyDictionary<string, int> { Count: > 1 } whole => Settled(model, config, whole),
                IReadOnlyDictionary<string, double> { Count: > 1 } numbers => Settled(model, config, numbers),
                _ => null,
            };
            if (changed is null)
            {
                continue;
            }

            settled = ReferenceEquals(settled, config) ? config with { } : settled;
            property.SetValue(settled, changed);
            if (source is not null)
            {
                source[JsonNamingPolicy.SnakeCaseLower.ConvertName(property.Name)] = JsonSerializer.SerializeToNode(changed);
            }
        }

        return settled;
    }

    private static Dictionary<string, T>? Settled<T>(CausalLanguageModel model, AdapterConfig config, IReadOnlyDictionary<string, T> patterns)
        where T : struct, IEquatable<T>
    {
        var sorted = patterns.OrderBy(static p => p.Key, StringComparer.Ordinal).ToDictionary();
        if (sorted.Keys.SequenceEqual(patterns.Keys))
        {
            return null;
        }

        var (byName, differs) = (new Dictionary<string, T>(), false);
        foreach (var name in Names(model, config).Distinct())
        {
            if (TargetModules.FirstMatch(patterns, name, out var value))
            {
                byName[name] = value;
                differs |= !(TargetModules.FirstMatch(sorted, name, out var later) && later.Equals(value));
            }
        }

        return differs ? byName : null;
    }

    private static List<string> Names(CausalLanguageModel model, AdapterConfig config)
    {
        using var replicas = config is LoraConfig { LayerReplication.Count: > 0 } lora ? PeftAdapter.Replicas(model, lora) : null;
        try
        {
            return [.. model.AdaptableModules.Select(static m => m.Name), .. AdapterTargets.Parameters(model)];
        }
        finally
        {
            if (replicas is not null)
            {
                model.Use(null);
            }
        }
    }
}
