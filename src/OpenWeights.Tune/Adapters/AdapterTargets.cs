using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>The modules of a model that an adapter's settings speak of.</summary>
internal static class AdapterTargets
{
    /// <summary>Every module that may be adapted or trained whole, in the model's order.</summary>
    /// <exception cref="InvalidDataException">None is adapted; the message lists what is there.</exception>
    internal static IReadOnlyList<(string Name, nn.Module Module)> Of(CausalLanguageModel model, LoraConfig config)
    {
        var modules = model.AdaptableModules;
        return modules.Any(m => IsAdapted(m, config)) ? modules : throw new InvalidDataException(
            $"target_modules ({Text(config.Targets)}){Limits(config)} names no layer of the model; {There(model)}.");
    }

    /// <summary>The modules that are adapted.</summary>
    internal static IEnumerable<(string Name, nn.Module Module)> Adapted(CausalLanguageModel model, LoraConfig config) =>
        Of(model, config).Where(m => IsAdapted(m, config));

    /// <summary>Refuses a name in a list that is no module of the model's: in a config that is a slip of the pen.</summary>
    /// <exception cref="InvalidDataException">There is such a name.</exception>
    internal static void RequireNames(CausalLanguageModel model, LoraConfig config)
    {
        bool Known(string name) => model.AdaptableModules.Any(m => $".{m.Name}.".Contains($".{name}.", StringComparison.Ordinal));
        foreach (var (setting, names) in new[] { ("target_modules", config.Targets.Names), ("modules_to_save", config.ModulesToSave) })
        {
            if (names?.Where(n => !Known(n)).ToList() is { Count: > 0 } unknown)
            {
                throw new InvalidDataException($"{setting}: {string.Join(", ", unknown)}: there is nothing of that name in the model; {There(model)}.");
            }
        }
    }

    /// <summary>Whether a module is the token embedding or the output head, which PEFT saves whole where they are adapted.</summary>
    internal static bool IsEmbedding(string name) => name[(name.LastIndexOf('.') + 1)..] is "embed_tokens" or "lm_head";

    /// <summary>Whether a module is adapted. Norms can be trained whole, but have no low-rank update; all-linear leaves the embedding out.</summary>
    internal static bool IsAdapted((string Name, nn.Module Module) module, LoraConfig config) =>
        (module.Module is LinearLayer || (module.Module is TokenEmbedding && config.Targets != TargetModules.AllLinear)) && config.Adapts(module.Name);

    private static string Text(TargetModules targets) => targets.Pattern ?? string.Join(", ", targets.Names ?? ["all-linear"]);

    private static string Limits(LoraConfig config) =>
        (config.Excluded is null ? "" : $", without exclude_modules ({Text(config.Excluded)}),")
        + (config.LayersToTransform.Count == 0 ? "" : $" in layers_to_transform ({string.Join(", ", config.LayersToTransform)})");

    private static string There(CausalLanguageModel model)
    {
        static string Leaves(IEnumerable<string> names) => string.Join(", ", names.Select(static n => n[(n.LastIndexOf('.') + 1)..]).Distinct().Order(StringComparer.Ordinal));
        return $"its linear layers are {Leaves(model.LinearLayers.Select(static l => l.Name))}, its embedding is {Leaves(model.AdaptableModules.Where(static m => m.Module is TokenEmbedding).Select(static m => m.Name))}";
    }
}
