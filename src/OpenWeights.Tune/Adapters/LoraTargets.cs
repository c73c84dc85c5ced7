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
        var before = 0;
        foreach (var problem in AdapterTargets.Problems(model, config).Concat(ParameterProblems(model, config)))
        {
            before++;
            yield return problem;
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
        if (adapted.Count + experts.Count == 0)
        {
            yield return ("target_modules", AdapterTargets.NoTarget(model, config));
        }

        foreach (var (setting, problem) in ExpertProblems(config, experts.FirstOrDefault() ?? adapted.FirstOrDefault(m => config.AdaptsParameter($"{m.Name}.weight")).Name))
        {
            yield return (setting, problem);
        }

        foreach (var (name, module) in adapted)
        {
            if (module is TokenEmbedding && Unfit(config, name) is { } unfit)
            {
                yield return ("target_modules", unfit);
            }
            else if (module is LinearLayer layer && config.Init == LoraInit.Pissa && config.RankOf(name) > Math.Min(layer.InFeatures, layer.OutFeatures))
            {
                yield return ("init_lora_weights", TooHighForPissa(name, layer, config.RankOf(name)));
            }
        }
    }

    /// <summary>Why an embedding cannot be adapted with these settings; null if it can.</summary>
    internal static string? Unfit(LoraConfig config, string module) => config.UseDora || config.Init == LoraInit.Pissa || config.LoraBias
        ? $"{module}: an embedding cannot be adapted with use_dora, lora_bias or init_lora_weights: pissa; remove it from target_modules, or train it in full with modules_to_save."
        : null;

    /// <summary>Message for a rank that exceeds a layer's number of singular values.</summary>
    internal static string TooHighForPissa(string module, LinearLayer layer, int rank) =>
        $"pissa: rank {rank} exceeds the number of singular values of {module} ([{layer.OutFeatures}, {layer.InFeatures}]); lower r, or set its rank in rank_pattern.";

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
            ("init_lora_weights", config.Init == LoraInit.Pissa, "set it to true"),
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
