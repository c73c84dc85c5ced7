using System.Globalization;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>Problems of a LoRA adapter's settings with a model, besides those of any kind (<see cref="AdapterTargets"/>).</summary>
internal static class LoraTargets
{
    /// <summary>All problems, each with the name of the setting, including the index in its list.</summary>
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
        foreach (var problem in AdapterTargets.Problems(model, config).Concat(ParameterProblems(model, config)).Concat(TokenTargeting.Problems(model, config)))
        {
            before++;
            yield return problem;
        }

        if (config.VocabularySize is { } tokens && tokens < model.Config.VocabularySize)
        {
            before++;
            yield return ("vocab_size", string.Create(CultureInfo.InvariantCulture, $"the model has {model.Config.VocabularySize} tokens already; name a larger number, or remove it."));
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

        var adapted = model.AdaptableModules.Where(m => AdapterTargets.IsAdapted(model, m, config)).ToList();
        var experts = model.AdaptableModules.SelectMany(m => AdapterTargets.Experts(m, config).Select(x => $"{m.Name}.{x.Name}")).ToList();
        if (adapted.Count + experts.Count + config.TrainableTokens.Count == 0)
        {
            yield return ("target_modules", AdapterTargets.NoTarget(model, config));
        }

        foreach (var (setting, problem) in ExpertProblems(config, experts.FirstOrDefault() ?? adapted.FirstOrDefault(m => config.AdaptsParameter($"{m.Name}.weight")).Name))
        {
            yield return (setting, problem);
        }

        if (config.UseDora && WeightTie.Of(model, config).Keeps && adapted.Exists(m => model.Config.Names.IsEmbeddingOrHead(m.Name)))
        {
            yield return ("use_dora", $"{model.Config.Names.EmbeddingModule} cannot be adapted with use_dora and ensure_weight_tying; set one of them to false.");
        }

        foreach (var conflict in LoraForms.Conflicts(config))
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

    /// <summary>Why an embedding cannot be adapted with these settings; null if it can.</summary>
    internal static string? Unfit(LoraConfig config, string module)
    {
        var setting = config.LoraBias ? "lora_bias" : config.Kasa is not null ? "kasa_config" : config.BlockDiagonal is not null ? "use_bdlora"
            : config.InvocationTokens.Count > 0 ? "alora_invocation_tokens" : config.Init is LoraInit.Mica or LoraInit.Loftq or LoraInit.LoraGa ? $"init_lora_weights: {Starts.LoraStarts.Name(config)}" : null;
        return setting is null ? null : $"{module}: an embedding cannot be adapted with {setting}; remove it from target_modules, or train it in full with modules_to_save.";
    }

    // What cannot be combined with an adapted parameter, as in PEFT.
    private static IEnumerable<(string Setting, string Message)> ExpertProblems(LoraConfig config, string? parameter)
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

    private static IEnumerable<(string Setting, string Message)> ParameterProblems(CausalLanguageModel model, LoraConfig config)
    {
        var there = AdapterTargets.Parameters(model).ToList();
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
}
