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
    internal static IReadOnlyList<(string Name, nn.Module Module)> Of(CausalLanguageModel model, LoraConfig config)
    {
        var modules = model.AdaptableModules;
        return config.TrainableTokens.Count > 0 || modules.Any(m => IsAdapted(model, m, config) || Experts(m, config).Any()) ? modules : throw new InvalidDataException($"target_modules: {NoTarget(model, config)}");
    }

    /// <summary>Throws if the settings name modules that the model does not have, which are usually typos.</summary>
    /// <exception cref="InvalidDataException">A name matches no module.</exception>
    internal static void RequireNames(CausalLanguageModel model, LoraConfig config)
    {
        if (Problems(model, config).ToList() is { Count: > 0 } problems)
        {
            throw new InvalidDataException(string.Join('\n', problems.Select(static p => $"{p.Setting.Split('.')[0]}: {p.Message}")));
        }
    }

    /// <summary>
    /// Problems of an adapter's settings with a model, each with the name of the setting, including the index in its list.
    /// </summary>
    internal static IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, LoraConfig config)
    {
        LayerReplicas? replicas = null;
        try
        {
            replicas = PeftAdapter.Replicas(model, config);
            return [.. OfLayers(model, config)];
        }
        catch (InvalidDataException e) when (replicas is null && config.LayerReplication.Count > 0)
        {
            return [("layer_replication", e.Message.Split(": ", 2)[1])];
        }
        finally
        {
            if (replicas is not null)
            {
                model.Use(null);
                replicas.Dispose();
            }
        }
    }

    private static IEnumerable<(string Setting, string Message)> OfLayers(CausalLanguageModel model, LoraConfig config)
    {
        var before = 0;
        foreach (var problem in NameProblems(model, config).Concat(ParameterProblems(model, config)).Concat(PatternProblems(model, config)).Concat(TokenTargeting.Problems(model, config)))
        {
            before++;
            yield return problem;
        }

        foreach (var layer in config.LayersToTransform.Where(l => l >= model.LayerCount))
        {
            before++;
            yield return ("layers_to_transform", $"the model has no layer {layer}; its {model.LayerCount} layers are numbered from 0.");
        }

        if (before > 0)
        {
            yield break;
        }

        if (Resolved(model, config, out config) is { } half)
        {
            yield return ("target_modules", half);
            yield break;
        }

        var adapted = model.AdaptableModules.Where(m => IsAdapted(model, m, config)).ToList();
        var experts = model.AdaptableModules.SelectMany(m => Experts(m, config).Select(x => $"{m.Name}.{x.Name}")).ToList();
        if (adapted.Count + experts.Count + config.TrainableTokens.Count == 0)
        {
            yield return ("target_modules", NoTarget(model, config));
        }

        foreach (var (setting, problem) in ExpertProblems(config, experts.FirstOrDefault() ?? adapted.FirstOrDefault(m => config.AdaptsParameter($"{m.Name}.weight")).Name))
        {
            yield return (setting, problem);
        }

        foreach (var conflict in LoraForms.Conflicts(config, adapted.Exists(m => m.Name == model.Config.Names.Head)))
        {
            yield return conflict;
        }

        foreach (var (name, module) in adapted)
        {
            if (module is TokenEmbedding && Unfit(config, name) is { } unfit)
            {
                yield return ("target_modules", unfit);
            }
            else if (module is LinearLayer layer)
            {
                foreach (var problem in LoraForms.Problems(config, name, layer, config.RankOf(config.PatternName(name))))
                {
                    yield return problem;
                }
            }
        }
    }

    /// <summary>The matrices of experts that are adapted in a module.</summary>
    /// <param name="module">The module.</param>
    /// <param name="config">The settings.</param>
    internal static IEnumerable<ExpertMatrix> Experts((string Name, nn.Module Module) module, LoraConfig config) =>
        module.Module is StackedExperts experts ? experts.Matrices.Where(m => config.AdaptsParameter($"{module.Name}.{m.Name}")) : [];

    /// <summary>What cannot be combined with an adapted parameter, as in PEFT.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="parameter">An adapted parameter; null for none.</param>
    internal static IEnumerable<(string Setting, string Message)> ExpertProblems(LoraConfig config, string? parameter)
    {
        if (parameter is null)
        {
            yield break;
        }

        foreach (var (setting, isSet, other) in new[]
        {
            ("lora_dropout", config.Dropout > 0, "set it to 0"), ("use_dora", config.UseDora, "set it to false"), ("lora_bias", config.LoraBias, "set it to false"),
            ("init_lora_weights", config.Init is not (LoraInit.Kaiming or LoraInit.Gaussian), "set it to true"), ("use_bdlora", config.BlockDiagonal is not null, "remove it"),
            ("kasa_config", config.Kasa is not null, "remove it"), ("alora_invocation_tokens", config.InvocationTokens.Count > 0, "remove it"),
        })
        {
            if (isSet)
            {
                yield return (setting, $"it cannot be used for {parameter}, which is adapted as a parameter; {other}, or adapt other modules only.");
            }
        }
    }

    // The settings with names of experts' layers turned into parameters, or why that is not possible.
    private static string? Resolved(CausalLanguageModel model, LoraConfig config, out LoraConfig resolved)
    {
        resolved = config;
        try
        {
            resolved = ExpertTargeting.Convert(model, config);
            return null;
        }
        catch (InvalidDataException e)
        {
            return e.Message.Split(": ", 2)[1];
        }
    }

    /// <summary>Why an embedding cannot be adapted with these settings; null if it can.</summary>
    internal static string? Unfit(LoraConfig config, string module)
    {
        var setting = config.LoraBias ? "lora_bias" : config.Kasa is not null ? "kasa_config" : config.BlockDiagonal is not null ? "use_bdlora"
            : config.InvocationTokens.Count > 0 ? "alora_invocation_tokens" : config.Init is LoraInit.Mica or LoraInit.Loftq or LoraInit.LoraGa ? $"init_lora_weights: {Starts.LoraStarts.Name(config)}" : null;
        return setting is null ? null : $"{module}: an embedding cannot be adapted with {setting}; remove it from target_modules, or train it in full with modules_to_save.";
    }

    private static IEnumerable<(string Setting, string Message)> NameProblems(CausalLanguageModel model, LoraConfig config)
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
                else if (setting == "target_modules" && TakesNone(model, names[i]))
                {
                    yield return (
                        string.Create(CultureInfo.InvariantCulture, $"{setting}.{i}"),
                        $"{names[i]} takes no adapter in this family: transformers computes with its weight alone, so that PEFT refuses or ignores one; remove it, or train it in full with modules_to_save.");
                }
            }
        }
    }

    private static bool TakesNone(CausalLanguageModel model, string name)
    {
        var layers = model.LinearLayers.Where(l => l.Name == name || l.Name.EndsWith("." + name, StringComparison.Ordinal)).ToList();
        return layers.Count > 0 && layers.TrueForAll(static l => !l.Layer.TakesAdapters);
    }

    private static IEnumerable<(string Setting, string Message)> ParameterProblems(CausalLanguageModel model, LoraConfig config)
    {
        var there = Parameters(model).ToList();
        for (var i = 0; i < config.TargetParameters.Count; i++)
        {
            var name = config.TargetParameters[i];
            if (!there.Exists(p => p == name || p.EndsWith("." + name, StringComparison.Ordinal)))
            {
                var stacked = string.Join(", ", model.ExpertMatrices.Select(static m => m.Name[(m.Name.LastIndexOf('.') + 1)..]).Distinct());
                yield return (string.Create(CultureInfo.InvariantCulture, $"target_parameters.{i}"), $"the model has no parameter named {name} that can be adapted; {(stacked.Length > 0 ? $"those of its experts are {stacked}" : "it has no experts, so use target_modules")}.");
            }
        }
    }

    // Parameters that can be adapted: those of experts, and weights of linear layers.
    private static IEnumerable<string> Parameters(CausalLanguageModel model) => model.ExpertMatrices.Select(static m => m.Name).Concat(model.LinearLayers.Select(static l => $"{l.Name}.weight"));

    private static IEnumerable<(string Setting, string Message)> PatternProblems(CausalLanguageModel model, LoraConfig config)
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

        foreach (var (setting, keys) in new[] { ("rank_pattern", config.RankPattern.Keys), ("alpha_pattern", config.AlphaPattern.Keys) })
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

    /// <summary>Whether a module is adapted. Norms can be trained in full but not adapted; all-linear excludes the embedding and the head.</summary>
    internal static bool IsAdapted(CausalLanguageModel model, (string Name, nn.Module Module) module, LoraConfig config) =>
        module.Module switch
        {
            LinearLayer { TakesAdapters: false } => false,
            LinearLayer layer => (config.Adapts(module.Name) && !(config.Targets == TargetModules.AllLinear && (layer.IsRouter || module.Name == model.Config.Names.Head)))
                || config.AdaptsParameter($"{module.Name}.weight"),
            TokenEmbedding => config.Targets != TargetModules.AllLinear && config.Adapts(module.Name),
            _ => false,
        };

    private static string NoTarget(CausalLanguageModel model, LoraConfig config)
    {
        var name = config.Targets.Pattern is { } pattern ? Nearest(model, pattern) : "";
        return $"{Text(config.Targets)}{Limits(config)} matches no layer of the model; {name}{There(model)}.";
    }

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
