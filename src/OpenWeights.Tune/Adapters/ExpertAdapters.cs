using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Reads adapters that have an update of each matrix of each expert, as PEFT wrote them before experts were stacked, as updates of the stacks:
/// A of gate and up lie one above the other, and their B are a block diagonal.
/// </summary>
internal static partial class ExpertAdapters
{
    /// <summary>The tensors of an adapter's file with the experts' updates stacked, and the settings for them; the file itself if it has none of single experts.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="file">The adapter's file.</param>
    /// <param name="config">The settings; replaced by those for the result.</param>
    /// <param name="json">The settings as JSON, changed likewise.</param>
    /// <exception cref="InvalidDataException">The updates cannot be stacked.</exception>
    internal static ITensorSource Stacked(CausalLanguageModel model, SafetensorsFile file, ref LoraConfig config, JsonObject json)
    {
        var facts = FamilyTable.Find(model.Config.ModelType);
        var names = file.Tensors.ToDictionary(static t => t.Name, t => facts?.Layout?.ModuleOf(t.Name) ?? t.Name);
        var pieces = names.Select(static n => (Stored: n.Key, Match: Piece().Match(n.Value))).Where(static p => p.Match.Success).ToList();
        if (model.ExpertMatrices.Count == 0 || pieces.Count == 0)
        {
            return file;
        }

        var targets = facts?.Experts?.Targets ?? ExpertTargets.GateUpDown;
        var found = pieces.ToDictionary(static p => (Module: p.Match.Groups[1].Value, Expert: int.Parse(p.Match.Groups[2].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture), Matrix: p.Match.Groups[3].Value, Half: p.Match.Groups[4].Value), static p => p.Stored);
        var result = new MemoryTensors(file.Location);
        var used = pieces.Select(static p => p.Stored).ToHashSet();
        foreach (var entry in file.Tensors.Where(t => !used.Contains(t.Name)))
        {
            result.Add(names[entry.Name], entry.DType, entry.Shape, file.ReadBytes(entry.Name));
        }

        var (settings, parameters) = (config, new SortedSet<string>(StringComparer.Ordinal));
        var others = Others(model, config, result, parameters);
        foreach (var module in found.Keys.Select(static k => k.Module).Distinct().Order(StringComparer.Ordinal).ToList())
        {
            var matrices = model.ExpertMatrices.Where(m => $"{PeftFolder.Prefix}{m.Name}".StartsWith($"{module}.", StringComparison.Ordinal)).Select(static m => m.Matrix).ToList();
            var adapted = matrices.Where(m => Parts(m, targets).Any(part => found.Keys.Any(k => k.Module == module && k.Matrix == part))).ToList();
            foreach (var matrix in adapted)
            {
                var reader = new Reader(file, found, module, settings);
                var rank = reader.Stack(result, ExpertLora.FileName(module, adapted.Count == 2 && matrix == adapted[0]), matrix, Parts(matrix, targets));
                _ = parameters.Add(matrix.Name);
                config = rank == config.Rank && Parts(matrix, targets).Length == 1 ? config
                    : config.WithParameter(Parts(matrix, targets).Length == 2 ? $@".*\.{matrix.Name}" : $@".*\.experts\.{matrix.Name}", rank, settings.Alpha / (settings.UseRslora ? Math.Sqrt(settings.Rank) : settings.Rank) * (settings.UseRslora ? Math.Sqrt(rank) : rank));
            }
        }

        config = config with { Targets = others, TargetParameters = [.. parameters] };
        PeftConfig.WriteTargets(config, json);
        return result;
    }

    private static string[] Parts(ExpertMatrix matrix, ExpertTargets names) => matrix.Name == "gate_up_proj" ? [names.Gate, names.Up] : matrix.Name == "up_proj" ? [names.Up] : [names.Down];

    // The targets without those of experts and routers, which are parameters now.
    private static TargetModules Others(CausalLanguageModel model, LoraConfig config, MemoryTensors tensors, SortedSet<string> parameters)
    {
        var modules = tensors.Tensors.Select(static t => Module().Match(t.Name)).Where(static m => m.Success).Select(static m => m.Groups[1].Value[PeftFolder.Prefix.Length..]).Distinct().ToHashSet();
        foreach (var router in model.LinearLayers.Where(l => l.Layer.IsRouter && modules.Remove(l.Name)).Select(static l => l.Name))
        {
            _ = parameters.Add($"{router[(router.LastIndexOf('.') + 1)..]}.weight");
        }

        // A name is kept as it is where it stands for what is left in the file.
        bool Is(string module, string name) => module == name || module.EndsWith("." + name, StringComparison.Ordinal);
        return config.Targets.Names is { } given && modules.All(m => given.Any(n => Is(m, n)))
            ? TargetModules.Of([.. given.Where(n => modules.Any(m => Is(m, n)))])
            : TargetModules.Of([.. modules.Order(StringComparer.Ordinal)]);
    }

    [GeneratedRegex(@"^(.*\.experts)\.([0-9]+)\.([^.]+)\.lora_([AB])\.weight$")]
    private static partial Regex Piece();

    [GeneratedRegex(@"^(base_model\.model\..*)\.lora_(?:A|embedding_A)(?:\.weight)?$")]
    private static partial Regex Module();

    /// <summary>Reads the updates of one mixture's experts.</summary>
    private sealed class Reader(SafetensorsFile file, Dictionary<(string Module, int Expert, string Matrix, string Half), string> found, string module, LoraConfig config)
    {
        /// <summary>Adds A and B of all experts to a file, and returns the rank of an expert's update.</summary>
        internal int Stack(MemoryTensors result, string name, ExpertMatrix matrix, string[] parts)
        {
            using var nothing = no_grad();
            using var scope = NewDisposeScope();
            var missing = parts.Where(part => !found.Keys.Any(k => k.Module == module && k.Matrix == part)).ToList();
            if (missing.Count > 0)
            {
                throw new InvalidDataException($"{file.Location}: it has no updates of {missing[0]} of the experts in {module}, which lies in one parameter, {matrix.Name}, with {parts.First(p => !missing.Contains(p))}; adapters must update both.");
            }

            // Experts without an update, or with one of a lower rank, are filled up with zeros.
            var ranks = parts.Select(part => Enumerable.Range(0, matrix.Count).Max(e => Read(e, part, "A")?.size(0) ?? 0)).ToArray();
            var (rank, (input, output)) = (ranks.Sum(), (matrix.InFeatures, matrix.OutFeatures / parts.Length));
            var (a, b) = (zeros([matrix.Count, rank, input], float32), zeros([matrix.OutFeatures, rank, matrix.Count], float32));
            for (var expert = 0; expert < matrix.Count; expert++)
            {
                var first = 0L;
                foreach (var (part, index) in parts.Select(static (p, i) => (p, i)))
                {
                    if (Read(expert, part, "A") is { } ownA && Read(expert, part, "B") is { } ownB)
                    {
                        using Scalar factor = config.ScaleOf($"{module[PeftFolder.Prefix.Length..]}.{expert}.{part}") / (config.Alpha / (config.UseRslora ? Math.Sqrt(config.Rank) : config.Rank));
                        _ = a.select(0, expert).narrow(0, first, ownA.size(0)).copy_(ownA);
                        _ = b.select(2, expert).narrow(0, index * output, output).narrow(1, first, ownB.size(1)).copy_(ownB.mul(factor));
                    }

                    first += ranks[index];
                }
            }

            Add(result, $"{name}.lora_A.weight", a.view(-1, input));
            Add(result, $"{name}.lora_B.weight", b.view(matrix.OutFeatures, -1));
            return (int)rank;
        }

        private static void Add(MemoryTensors result, string name, Tensor values) => result.Add(name, values.shape, values.contiguous().data<float>().ToArray());

        private Tensor? Read(int expert, string part, string half) => found.TryGetValue((module, expert, part, half), out var stored) ? TensorFiles.Read(file, stored, float32) : null;
    }
}
