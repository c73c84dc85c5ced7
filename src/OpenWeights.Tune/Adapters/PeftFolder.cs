using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>LoRA adapters from and to the folders that PEFT reads and writes.</summary>
public static class PeftFolder
{
    private const string Prefix = "base_model.model.";

    /// <summary>Reads an adapter and puts it on a model.</summary>
    /// <param name="model">The adapter's base.</param>
    /// <param name="path">The adapter's folder.</param>
    /// <param name="warn">Is told of settings that are not known; null for nobody.</param>
    /// <exception cref="InvalidDataException">The adapter is of another kind, or does not fit the model; all tensors that do not fit are listed.</exception>
    public static LoraAdapter Load(CausalLanguageModel model, string path, Action<string>? warn = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        var folder = AdapterFolder.Open(path);
        var configPath = Path.Combine(path, AdapterFolder.ConfigName);
        var config = PeftConfig.Read(folder.Config, configPath, out var unknown);
        if (unknown.Count > 0)
        {
            warn?.Invoke($"{configPath}: {string.Join(", ", unknown)}: not known to this version, and left out of account.");
        }

        using var weights = folder.OpenWeights();
        Check(model, config, weights);
        return LoraAdapter.Attach(model, config, (module, _, _) =>
        {
            using var scope = NewDisposeScope();
            return (
                scope.Detach(TensorFiles.Read(weights, $"{Prefix}{module}.lora_A.weight", float32, model.Device)),
                scope.Detach(TensorFiles.Read(weights, $"{Prefix}{module}.lora_B.weight", float32, model.Device)));
        });
    }

    /// <summary>Writes an adapter's two files into a folder.</summary>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The folder; it is made where it is missing.</param>
    /// <param name="baseModel">What the file names as the base model: its folder or its name on the Hub.</param>
    /// <exception cref="IOException">The folder cannot be written.</exception>
    public static void Save(LoraAdapter adapter, string path, string? baseModel)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        AdapterFolder.Write(
            path,
            PeftConfig.Write(adapter.Config, adapter.Layers.Select(static l => l.Module), baseModel),
            [.. adapter.Parameters.Select(static p => TensorFiles.ToWrite(Prefix + p.Name, p.Parameter))]);
    }

    private static void Check(CausalLanguageModel model, LoraConfig config, SafetensorsFile weights)
    {
        var wanted = new Dictionary<string, long[]>();
        foreach (var (name, layer) in LoraAdapter.Select(model, config))
        {
            long rank = config.RankOf(name);
            wanted[$"{Prefix}{name}.lora_A.weight"] = [rank, layer.InFeatures];
            wanted[$"{Prefix}{name}.lora_B.weight"] = [layer.OutFeatures, rank];
        }

        var problems = new List<string>();
        foreach (var (name, shape) in wanted)
        {
            if (!weights.TryGetTensor(name, out var entry))
            {
                problems.Add($"missing: {name} [{string.Join(", ", shape)}]");
            }
            else if (!entry.Shape.SequenceEqual(shape))
            {
                problems.Add($"misshapen: {name} is [{string.Join(", ", entry.Shape)}], the base model and r ask for [{string.Join(", ", shape)}]");
            }
        }

        problems.AddRange(weights.Tensors.Where(t => !wanted.ContainsKey(t.Name)).Select(static t => $"not asked for: {t.Name}"));
        if (problems.Count > 0)
        {
            throw new InvalidDataException($"{weights.Location}: the adapter does not fit this base model ({problems.Count} tensors):\n  {string.Join("\n  ", problems.Take(20))}");
        }
    }
}
