using System.Globalization;
using System.Text.RegularExpressions;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Resolves the module names in an adapter's settings.</summary>
internal static class AdapterTargets
{
    /// <summary>All modules that can be adapted or trained in full, in model order.</summary>
    /// <exception cref="InvalidDataException">No module is adapted; the message lists the available names.</exception>
    internal static IReadOnlyList<(string Name, nn.Module Module)> Of(CausalLanguageModel model, AdapterConfig config)
    {
        var modules = model.AdaptableModules;
        return config is LoraConfig { TrainableTokens.Count: > 0 } || modules.Any(m => IsAdapted(model, m, config) || Experts(m, config).Any()) ? modules : throw new InvalidDataException($"target_modules: {NoTarget(model, config)}");
    }

    /// <summary>Throws if the settings name modules that the model does not have, which are usually typos.</summary>
    /// <exception cref="InvalidDataException">A name matches no module.</exception>
    internal static void RequireNames(CausalLanguageModel model, AdapterConfig config)
    {
        if (AdapterKinds.Of(config).Problems(model, config).ToList() is { Count: > 0 } problems)
        {
            throw new InvalidDataException(string.Join('\n', problems.Select(static p => $"{p.Setting.Split('.')[0]}: {p.Message}")));
        }
    }

    /// <summary>
    /// Problems with names in an adapter's settings, each with the name of the setting, including the index in its list.
    /// </summary>
    internal static IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, AdapterConfig config)
    {
        foreach (var problem in NameProblems(model, config).Concat(PatternProblems(model, config)))
        {
            yield return problem;
        }

        foreach (var layer in config.LayersToTransform.Where(l => l >= model.LayerCount))
        {
            yield return ("layers_to_transform", $"the model has no layer {layer}; its {model.LayerCount} layers are numbered from 0.");
        }
    }

    /// <summary>The matrices of experts that are adapted in a module.</summary>
    /// <param name="module">The module.</param>
    /// <param name="config">The settings.</param>
    internal static IEnumerable<ExpertMatrix> Experts((string Name, nn.Module Module) module, AdapterConfig config) =>
        module.Module is StackedExperts experts ? experts.Matrices.Where(m => config.AdaptsParameter($"{module.Name}.{m.Name}")) : [];

    private static IEnumerable<(string Setting, string Message)> NameProblems(CausalLanguageModel model, AdapterConfig config)
    {
        bool Known(string name) => model.AdaptableModules.Any(m => $".{m.Name}.".Contains($".{name}.", StringComparison.Ordinal));
        foreach (var (setting, names) in new[] { ("target_modules", config.Targets.Names), ("exclude_modules", config.Excluded?.Names), ("modules_to_save", config.ModulesToSave) })
        {
            for (var i = 0; i < (names?.Count ?? 0); i++)
            {
                if (!Known(names![i]) && !(setting == "target_modules" && ExpertTargeting.Names(model, names[i])))
                {
                    yield return (string.Create(CultureInfo.InvariantCulture, $"{setting}.{i}"), $"the model has no module named {names[i]}; {Nearest(model, names[i])}{There(model)}.");
                }
                else if (setting == "target_modules" && !Named(model, names[i]).Any(m => config.Takes(m.Module)) && Named(model, names[i]).Any())
                {
                    yield return (string.Create(CultureInfo.InvariantCulture, $"{setting}.{i}"), $"{config.TypeName} does not adapt {names[i]}; what it adapts are {Leaves(model.AdaptableModules.Where(m => config.Takes(m.Module)).Select(static m => m.Name))}.");
                }
                else if (setting == "target_modules" && TakesNone(model, names[i]))
                {
                    yield return (
                        string.Create(CultureInfo.InvariantCulture, $"{setting}.{i}"),
                        $"{names[i]} takes no adapter in this family: transformers computes with its weight alone, so that PEFT refuses or ignores one; remove it, or train it in full with modules_to_save.");
                }
            }
        }
    }

    private static IEnumerable<(string Name, nn.Module Module)> Named(CausalLanguageModel model, string name) =>
        model.AdaptableModules.Where(m => m.Name == name || m.Name.EndsWith("." + name, StringComparison.Ordinal));

    private static bool TakesNone(CausalLanguageModel model, string name)
    {
        var layers = model.LinearLayers.Where(l => l.Name == name || l.Name.EndsWith("." + name, StringComparison.Ordinal)).ToList();
        return layers.Count > 0 && layers.TrueForAll(static l => !l.Layer.TakesAdapters);
    }

    /// <summary>Parameters that can be adapted: those of experts, and weights of linear layers.</summary>
    internal static IEnumerable<string> Parameters(CausalLanguageModel model) => model.ExpertMatrices.Select(static m => m.Name).Concat(model.LinearLayers.Select(static l => $"{l.Name}.weight"));

    private static IEnumerable<(string Setting, string Message)> PatternProblems(CausalLanguageModel model, AdapterConfig config)
    {
        var patterns = new[] { ("target_modules", config.Targets.Pattern), ("exclude_modules", config.Excluded?.Pattern) }
            .Concat(config.LayersPattern.Select(static p => ("layers_pattern", (string?)p)));
        foreach (var (setting, pattern) in patterns)
        {
            if (pattern is not null && Broken(pattern) is { } broken)
            {
                yield return (setting, broken);
            }
        }

        foreach (var (setting, keys) in config.Patterns)
        {
            foreach (var key in keys)
            {
                if (Broken(key) is { } broken)
                {
                    yield return ($"{setting}.{key}", broken);
                }
                else if (!model.AdaptableModules.Select(static m => m.Name).Concat(Parameters(model)).Any(name => TargetModules.FirstMatch(new Dictionary<string, bool> { [key] = true }, name, out _)))
                {
                    yield return ($"{setting}.{key}", $"this matches no layer of the model; {Nearest(model, key)}{There(model)}.");
                }
            }
        }
    }

    private static string? Broken(string pattern)
    {
        try
        {
            _ = new Regex(pattern, RegexOptions.None, TargetModules.Patience);
            return null;
        }
        catch (ArgumentException e)
        {
            return $"'{pattern}' is not a regular expression: {e.Message.TrimEnd('.')}.";
        }
    }

    private static string Nearest(CausalLanguageModel model, string name)
    {
        var leaves = model.AdaptableModules.Select(static m => m.Name).SelectMany(static n => new[] { n[(n.LastIndexOf('.') + 1)..], n }).Distinct();
        return Spelling.Nearest(name, leaves) is { } nearest ? $"did you mean {nearest}? " : "";
    }

    /// <summary>Whether a module is adapted. Only LN tuning adapts norms; all-linear excludes the embedding and the head.</summary>
    internal static bool IsAdapted(CausalLanguageModel model, (string Name, nn.Module Module) module, AdapterConfig config) =>
        module.Module switch
        {
            LinearLayer { TakesAdapters: false } => false,
            _ when !config.Takes(module.Module) => false,
            LinearLayer layer => (config.Adapts(module.Name) && !(config.Targets == TargetModules.AllLinear && (layer.IsRouter || module.Name == model.Config.OutputModule)))
                || config.AdaptsParameter($"{module.Name}.weight"),
            TokenEmbedding => config.Targets != TargetModules.AllLinear && config.Adapts(module.Name),
            _ => config.Adapts(module.Name),
        };

    /// <summary>Message for targets that match no layer.</summary>
    internal static string NoTarget(CausalLanguageModel model, AdapterConfig config)
    {
        var name = config.Targets.Pattern is { } pattern ? Nearest(model, pattern) : "";
        return $"{Text(config.Targets)}{Limits(config)} matches no layer of the model; {name}{There(model)}.";
    }

    private static string Text(TargetModules targets) => targets.Pattern ?? string.Join(", ", targets.Names ?? ["all-linear"]);

    private static string Limits(AdapterConfig config) =>
        (config.Excluded is null ? "" : $", without exclude_modules ({Text(config.Excluded)}),")
        + (config.LayersToTransform.Count == 0 ? "" : $" in layers_to_transform ({string.Join(", ", config.LayersToTransform)})");

    private static string There(CausalLanguageModel model) =>
        $"its linear layers are {Leaves(model.LinearLayers.Select(static l => l.Name))}, its embedding is {Leaves(model.AdaptableModules.Where(static m => m.Module is TokenEmbedding).Select(static m => m.Name))}";

    private static string Leaves(IEnumerable<string> names) => string.Join(", ", names.Select(static n => n[(n.LastIndexOf('.') + 1)..]).Distinct().Order(StringComparer.Ordinal));
}
