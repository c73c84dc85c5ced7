using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Writes an adapter of stacked experts with an update of each matrix of each expert, as PEFT wrote it before experts were stacked, for servers that read
/// only that. It is the inverse of <see cref="ExpertAdapters"/>.
/// </summary>
internal static class SeparateExperts
{
    /// <summary>Writes an adapter's folder.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The folder; created if missing.</param>
    /// <param name="baseModel">The base model's folder or Hub name to store in the file if the adapter does not name one.</param>
    /// <exception cref="InvalidDataException">The base has no experts that the adapter updates, or its files have no layers of single experts.</exception>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Save(PeftAdapter adapter, string path, string? baseModel)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        var experts = adapter.Parts.OfType<ExpertLora>().ToList();
        if (experts.Count == 0)
        {
            throw new InvalidDataException($"the adapter updates no experts of {adapter.Base.Config.ModelType}; export it with --experts stacked.");
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var layout = FamilyTable.Find(adapter.Base.Config.ModelType)?.Layout;
        var updates = experts.SelectMany(part => Pieces(part, layout)).ToList();

        // Columns of B that are zero for every expert and layer, such as gate's in up's half, are left out.
        var kept = updates.GroupBy(static u => u.Leaf).ToDictionary(static g => g.Key, Columns);
        var json = AdapterKinds.Of(adapter.Config).Write(adapter, baseModel);
        Settle((LoraConfig)adapter.Config, json, adapter.Base, updates, kept);
        var others = PeftFolder.Tensors(adapter).Where(t => !experts.Exists(e => e.Parameters.Any(p => p.Name == t.Name))).Select(static t => TensorFiles.ToWrite(PeftFolder.FileName(t.Name), t.Tensor));
        var own = updates.SelectMany(u => new[]
        {
            TensorFiles.ToWrite($"{PeftFolder.Prefix}{u.Module}.lora_A.weight", u.A.index_select(0, kept[u.Leaf]).contiguous()),
            TensorFiles.ToWrite($"{PeftFolder.Prefix}{u.Module}.lora_B.weight", u.B.index_select(1, kept[u.Leaf]).contiguous()),
        });
        AdapterFolder.Write(path, json, [.. others, .. own], adapter.Fingerprint is { } fingerprint ? new Dictionary<string, string> { [BaseFingerprint.Key] = fingerprint.ToString() } : null);
    }

    // The update of each layer of each expert that the base's files have for a parameter.
    private static IEnumerable<Update> Pieces(ExpertLora part, CheckpointLayout? layout)
    {
        long[] shape = [part.Target.Count, part.Target.OutFeatures, part.Target.InFeatures];
        var pieces = layout?.PartsOf(part.Parameter, shape) ?? [];
        if (part.Target.IsTransposed || pieces.Count <= 1)
        {
            throw new InvalidDataException($"{part.Parameter}: the files of this family have no layers of single experts, so that there is no adapter of them; export it with --experts stacked.");
        }

        var (rank, each) = (part.Rank, shape[1] * shape[2]);
        foreach (var piece in pieces)
        {
            var (expert, row) = (piece.First / each, piece.First % each / shape[2]);
            var a = part.A.detach().narrow(0, expert * rank, rank);
            var b = part.B.detach().view(shape[1], rank, shape[0]).select(2, expert).narrow(0, row, piece.Shape[0]);
            var module = piece.Name[..^".weight".Length];
            yield return new Update(module, module[(module.LastIndexOf('.') + 1)..], a, b, part.Scale);
        }
    }

    private static Tensor Columns(IEnumerable<Update> same)
    {
        using var scope = NewDisposeScope();
        var used = same.Select(static u => u.B.abs().amax(0)).Aggregate(static (first, second) => where(first.gt(second), first, second));
        var columns = used.nonzero().view(-1);

        // An untrained adapter has no column that is not zero.
        return (columns.numel() == 0 ? arange(used.size(0), int64, used.device) : columns).MoveToOuterDisposeScope();
    }

    // Layers in the place of parameters, with their ranks and alphas.
    private static void Settle(LoraConfig config, JsonObject json, CausalLanguageModel model, List<Update> updates, Dictionary<string, Tensor> kept)
    {
        var leaves = kept.Keys.Order(StringComparer.Ordinal).ToList();
        var routers = model.LinearLayers.Where(l => l.Layer.IsRouter && config.AdaptsParameter($"{l.Name}.weight")).Select(static l => l.Name[(l.Name.LastIndexOf('.') + 1)..]).Distinct().ToList();
        var (ranks, alphas) = (new Dictionary<string, int>(), new Dictionary<string, double>());
        foreach (var (key, rank) in config.RankPattern.Where(p => !IsOfExperts(p.Key, model)))
        {
            ranks[key] = rank;
        }

        foreach (var (key, alpha) in config.AlphaPattern.Where(p => !IsOfExperts(p.Key, model)))
        {
            alphas[key] = alpha;
        }

        foreach (var leaf in leaves)
        {
            var (rank, scale) = ((int)kept[leaf].numel(), updates.First(u => u.Leaf == leaf).Scale);
            var alpha = scale * (config.UseRslora ? Math.Sqrt(rank) : rank);
            if (rank != config.Rank)
            {
                ranks[$@".*\.experts\.[0-9]+\.{leaf}"] = rank;
            }

            if (Math.Abs(alpha - config.Alpha) > 1e-9 * Math.Abs(config.Alpha))
            {
                alphas[$@".*\.experts\.[0-9]+\.{leaf}"] = alpha;
            }
        }

        // A name alone would also be found in layers that are not experts'.
        var isOthers = model.LinearLayers.Any(l => leaves.Exists(leaf => l.Name.EndsWith("." + leaf, StringComparison.Ordinal)) && !AdapterTargets.IsAdapted(model, (l.Name, l.Layer), config));
        if (config.Targets.Names is { } names && !isOthers)
        {
            config = config with { Targets = TargetModules.Of([.. names, .. leaves, .. routers]) };
        }
        else
        {
            var before = config.Targets.Pattern ?? $@"(?:.*\.)?(?:{string.Join('|', (config.Targets.Names ?? []).Select(Regex.Escape))})";
            config = config with { Targets = TargetModules.Of(string.Join('|', [before, $@".*\.experts\.[0-9]+\.(?:{string.Join('|', leaves)})", .. routers.Select(static r => $@".*\.{r}")])) };
        }

        PeftConfig.WriteTargets(config with { TargetParameters = [], RankPattern = ranks, AlphaPattern = alphas }, json);
        _ = json.Remove("target_parameters");
    }

    private static bool IsOfExperts(string pattern, CausalLanguageModel model) =>
        model.ExpertMatrices.Any(m => TargetModules.FirstMatch(new Dictionary<string, bool> { [pattern] = true }, m.Name, out _));

    private sealed record Update(string Module, string Leaf, Tensor A, Tensor B, double Scale);
}
