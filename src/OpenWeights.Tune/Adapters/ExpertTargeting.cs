using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Turns target_modules that name layers of single experts into target_parameters, as PEFT 0.21 does for the families that it knows: the
/// experts are parameters of one module now, with gate and up in one. That one gets twice the rank and alpha.
/// </summary>
internal static class ExpertTargeting
{
    private const string Router = "gate";
    private const string GateUp = "gate_up_proj";
    private const string Down = "down_proj";

    /// <summary>The settings of a new adapter, with the names of experts' layers turned into parameters.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    /// <exception cref="InvalidDataException">Only one of gate and up is named.</exception>
    internal static LoraConfig Convert(CausalLanguageModel model, LoraConfig config)
    {
        if (Find(model) is not { } names || model.ExpertMatrices.Count == 0)
        {
            return config;
        }

        var targets = Resolve(model, config.Targets, names);
        var (kept, parameters, parts) = (new List<string>(), new HashSet<string>(config.TargetParameters), new HashSet<string>());
        foreach (var target in targets)
        {
            var leaf = target[(target.LastIndexOf('.') + 1)..];
            if (leaf == Router)
            {
                _ = parameters.Add("gate.weight");
            }
            else if (leaf == names.Down)
            {
                _ = parameters.Add(Down);
            }
            else if (leaf == names.Gate || leaf == names.Up)
            {
                _ = parts.Add(leaf);
            }
            else
            {
                kept.Add(target);
            }
        }

        if (parts.Count == 1)
        {
            var missing = parts.Contains(names.Gate) ? names.Up : names.Gate;
            throw new InvalidDataException($"target_modules: {parts.First()} of the experts cannot be adapted without {missing}, since both are in one parameter, {GateUp}; add {missing}, or remove {parts.First()}.");
        }

        if (kept.Count == targets.Count)
        {
            return config;
        }

        if (parts.Count == 2)
        {
            _ = parameters.Add(GateUp);
            config = config.WithParameter($@".*\.{GateUp}", 2 * config.Rank, 2 * config.Alpha);
        }

        return config with { Targets = TargetModules.Of(kept), TargetParameters = [.. parameters.Order(StringComparer.Ordinal)] };
    }

    /// <summary>Whether a name in target_modules stands for parameters of experts or routers.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="name">The name.</param>
    internal static bool Names(CausalLanguageModel model, string name) =>
        Find(model) is { } names && name[(name.LastIndexOf('.') + 1)..] is var leaf && (leaf == names.Gate || leaf == names.Up || leaf == names.Down || leaf == Router);

    /// <summary>The names of an expert's layers that PEFT turns into parameters; null where it does not.</summary>
    /// <param name="model">The base model.</param>
    private static ExpertTargets? Find(CausalLanguageModel model) => FamilyTable.Find(model.Config.ModelType)?.Experts?.Targets;

    /// <summary>Sets rank and alpha of parameters.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="pattern">A pattern of their names.</param>
    /// <param name="rank">The rank.</param>
    /// <param name="alpha">Alpha.</param>
    internal static LoraConfig WithParameter(this LoraConfig config, string pattern, int rank, double alpha) => config with
    {
        RankPattern = new Dictionary<string, int>(config.RankPattern) { [pattern] = rank },
        AlphaPattern = new Dictionary<string, double>(config.AlphaPattern) { [pattern] = alpha },
    };

    // The names that a list gives, or the last steps of the names that all-linear and a pattern stand for.
    private static IReadOnlyList<string> Resolve(CausalLanguageModel model, TargetModules targets, ExpertTargets names)
    {
        static string Leaf(string name) => name[(name.LastIndexOf('.') + 1)..];
        string[] experts = [names.Gate, names.Up, names.Down];
        if (targets.Names is { } given)
        {
            return given;
        }

        if (targets.Pattern is null)
        {
            return [.. model.LinearLayers.Where(l => l.Layer is { IsRouter: false, TakesAdapters: true } && l.Name != model.Config.OutputModule && targets.Matches(l.Name)).Select(static l => Leaf(l.Name)).Concat(experts).Append(Router).Distinct()];
        }

        var found = model.AdaptableModules.Where(m => m.Module is LinearLayer or TokenEmbedding && targets.Matches(m.Name)).Select(static m => Leaf(m.Name)).ToHashSet();
        var modules = model.ExpertMatrices.Select(static m => m.Name[..m.Name.LastIndexOf('.')]).Distinct().ToList();
        found.UnionWith(experts.Where(name => modules.Exists(m => targets.Matches($"{m}.{name}") || targets.Matches($"{m}.0.{name}"))));
        return [.. found];
    }
}
