using OpenWeights.Formats.Families;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>
/// Exports a LoRA adapter as a GGUF file that llama.cpp applies to a GGUF of the base model
/// (<see href="https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py"/>).
/// </summary>
internal static class GgufLoraExport
{
    /// <summary>Writes the complete file, or nothing on failure. A and B are written in float32.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">llama.cpp cannot represent the adapter.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static void Write(ModelFolder folder, PeftAdapter adapter, string path)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(adapter);
        if (adapter.Base.Config.Labels is not null)
        {
            throw new InvalidDataException("llama.cpp does not read the heads of reward models and classifiers of this form; export with --format merged or peft, for transformers and vLLM.");
        }

        var configPath = Path.Combine(folder.FolderPath, ModelFolder.ConfigName);
        var config = new ConfigJson(folder.TextConfig, configPath);
        var family = GgufFamilies.OfModelType(config.Text("model_type"), configPath);
        RequirePlain(adapter);
        if (adapter.Layers.Any(l => l.Module == adapter.Base.Config.Names.Head) && IsTied(folder, config, family))
        {
            throw new InvalidDataException("the adapter changes the output head, which is tied to the embedding in this model; llama.cpp's LoRA files cannot represent that. Export with --format gguf, which merges the adapter.");
        }

        // llama.cpp scales by alpha / r; for a layer with another scale the ratio is folded into B.
        var alpha = Alpha(adapter);
        var metadata = new GgufMetadata(path)
        {
            { "general.architecture", family.Architecture },
            { "general.type", "adapter" },
            { "adapter.type", "lora" },
            { "general.file_type", 0u },
            { "general.quantization_version", 2u },
            { "adapter.lora.alpha", (float)alpha },
        };
        if (adapter.Invocation is { } invocation)
        {
            metadata.Add("adapter.alora.invocation_tokens", invocation.Tokens.Select(static t => (uint)t).ToArray());
        }

        GeneralSection.WriteAdapter(folder, metadata);
        var tensors = Tensors(adapter, config, family, alpha).ToList();
        GgufWriter.Write(path, metadata, tensors);
    }

    /// <summary>Reads a written file back and compares every tensor with the adapter's.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="path">The file.</param>
    /// <returns>Number of tensors.</returns>
    /// <exception cref="IOException">A tensor differs from what was written.</exception>
    public static int RequireSame(ModelFolder folder, PeftAdapter adapter, string path)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(adapter);
        var config = new ConfigJson(folder.TextConfig, Path.Combine(folder.FolderPath, ModelFolder.ConfigName));
        var family = GgufFamilies.OfModelType(config.Text("model_type"), path);
        var alpha = Alpha(adapter);
        using var file = GgufFile.Open(path);
        var expected = Tensors(adapter, config, family, alpha).ToList();
        foreach (var tensor in expected)
        {
            using var bytes = new MemoryStream();
            tensor.WriteTo(bytes);
            var written = new byte[file.GetTensor(tensor.Info.Name).ByteLength];
            file.ReadBytes(file.GetTensor(tensor.Info.Name), 0, written);
            if (!written.AsSpan().SequenceEqual(bytes.ToArray()))
            {
                throw new IOException($"{path}: tensor {tensor.Info.Name} differs from what was written; check the disk.");
            }
        }

        return file.Tensors.Count == expected.Count ? expected.Count : throw new IOException($"{path}: it has {file.Tensors.Count} tensors instead of {expected.Count}; check the disk.");
    }

    private static bool IsTied(ModelFolder folder, ConfigJson config, GgufFamily family)
    {
        using var weights = folder.OpenWeights();
        return !family.HasHead || GgufExport.IsTied(config, family, weights, GgufExport.Names(folder));
    }

    // llama.cpp would silently ignore other parts of an adapter.
    private static void RequirePlain(PeftAdapter adapter)
    {
        foreach (var part in adapter.Parts)
        {
            var more = part switch
            {
                LoraLayer { Magnitude: not null } => "has DoRA magnitudes (use_dora)",
                LoraLayer { OutputBias: not null } => "has a bias (lora_bias)",
                LoraLayer { HasStart: true } => "is initialized from the base's singular vectors (init_lora_weights: pissa and its like, kasa_config; --format peft converts it to a plain LoRA)",
                LoraLayer or ExpertLora => null,
                TrainableTokens => "trains rows of single tokens (trainable_token_indices)",
                EmbeddingLora => "adapts an embedding",
                LinearPart or PromptPart or SharedPart => $"is one of {adapter.Config.TypeName}, which it does not know",
                ReplacedWeight { Slot.Name: "bias" } => "is a trained bias (bias)",
                _ => "is a complete weight (modules_to_save, or an embedding in the file)",
            };
            if (more is not null)
            {
                throw new InvalidDataException($"llama.cpp's LoRA files support only low-rank updates of linear layers, but the adapter's part for {part.Module} {more}; export with --format gguf, which merges the adapter.");
            }
        }
    }

    private static double Alpha(PeftAdapter adapter) => adapter.Parts.Select(static p => p switch
    {
        LoraLayer layer => layer.Scale * layer.A.size(0),
        ExpertLora experts => experts.Scale * experts.Rank,
        _ => 0,
    }).First(static a => a != 0);

    private static IEnumerable<GgufTensorToWrite> Tensors(PeftAdapter adapter, ConfigJson config, GgufFamily family, double alpha)
    {
        foreach (var layer in adapter.Layers)
        {
            foreach (var tensor in OfLayer(layer, adapter.Base.Config.Names, config, family, alpha))
            {
                yield return tensor;
            }
        }

        foreach (var experts in adapter.Parts.OfType<ExpertLora>())
        {
            foreach (var tensor in OfExperts(experts, GgufExport.Usual(experts.Parameter, adapter.Base.Config.Names), config, family, alpha))
            {
                yield return tensor;
            }
        }
    }

    // Of a layer whose rows llama.cpp has in several tensors, each gets A, and its own rows of B.
    private static IEnumerable<GgufTensorToWrite> OfLayer(LoraLayer layer, DecoderNames names, ConfigJson config, GgufFamily family, double alpha)
    {
        var weight = GgufExport.Usual($"{layer.Module}.weight", names);
        var stored = family.Facts.Layout?.PartsOf(weight, [layer.Target.OutFeatures, layer.Target.InFeatures])[0].Name ?? weight;
        var (rank, factor) = (layer.A.size(0), layer.Scale / (alpha / layer.A.size(0)));
        long[] ofA = [rank, layer.Target.InFeatures];
        if (Pieces(stored, family) is not null)
        {
            foreach (var (name, (first, step, count)) in Targets(stored, layer.Module, config, family, layer.Target.OutFeatures, 1))
            {
                yield return Tensor($"{name}.lora_a", ofA, layer.Down, 1, GgufForm.Same);
                yield return Tensor($"{name}.lora_b", [count, rank], () => Every(layer.Up(), 0, first, step, count), factor, GgufForm.Same);
            }

            yield break;
        }

        foreach (var name in PlacesOf(stored, layer.Module, family).Select(static place => place.Name).Where(place => family.Has(place, config)))
        {
            RequireApplied(name, layer.Module, family);
            var form = family.FormOf(name, config);
            yield return Tensor($"{name}.lora_a", ofA, layer.Down, 1, GgufForm.Same with { Columns = form.Columns });
            yield return Tensor($"{name}.lora_b", [layer.Target.OutFeatures, rank], layer.Up, factor, GgufForm.Same with { Rows = form.Rows, Factors = form.Factors });
        }
    }

    // llama.cpp has gate and up apart: each gets A of both, and its own rows of B.
    private static IEnumerable<GgufTensorToWrite> OfExperts(ExpertLora experts, string parameter, ConfigJson config, GgufFamily family, double alpha)
    {
        var (target, rank, factor) = (experts.Target, experts.Rank, experts.Scale / (alpha / experts.Rank));
        var (count, input, output) = ((long)target.Count, target.InFeatures, target.OutFeatures);
        IReadOnlyList<long> shape = target.IsTransposed ? [count, input, output] : [count, output, input];
        var stored = (family.Facts.Layout?.PartsOf(parameter, shape) ?? [new StoredPart(parameter, shape, 0)]).Where(part => part.First < input * output).ToList();
        foreach (var part in stored)
        {
            // A part of one expert has its own rows; one of all experts, those of its pieces.
            var (from, rows) = part.Shape.Count == 2 ? (part.First / input, part.Shape[0]) : (0, output);
            foreach (var (name, (first, step, features)) in Targets(part.Name, experts.Parameter, config, family, rows, count))
            {
                yield return Tensor($"{name}.lora_a", [count, rank, input], () => Updates(experts).A, 1, GgufForm.Same);
                yield return Tensor(
                    $"{name}.lora_b", [count, features, rank], () => Every(Updates(experts).B, 1, from + first, step, features), factor, GgufForm.Same);
            }
        }
    }

    // A and B of all experts as they multiply states, [experts, rank, in] and [experts, out, rank].
    private static (Tensor A, Tensor B) Updates(ExpertLora experts)
    {
        var (count, (input, output)) = (experts.Target.Count, experts.Target.UpdateFeatures);
        var (a, b) = (experts.A.view(count, experts.Rank, input), experts.B.view(output, experts.Rank, count));
        return experts.Target.UpdatesAsStored ? (b.permute(2, 1, 0), a.transpose(1, 2)) : (a, b.permute(2, 0, 1));
    }

    // The tensors of the file that a checkpoint's tensor is in, and which output features of a matrix in it each has.
    private static IReadOnlyList<(string Name, (long First, long Step, long Count) Features)> Targets(string stored, string module, ConfigJson config, GgufFamily family, long features, long matrices)
    {
        IReadOnlyList<(string Name, (long First, long Step, long Count) Features)> targets = Pieces(stored, family) is { } split
            ? [.. split.Names.Select((name, piece) => (name, split.Split.OutputFeatures(piece, features)))]
            : [.. PlacesOf(stored, module, family).Where(place => family.Has(place.Name, config)).Select(place => (place.Name, Rows(family.FormOf(place.Name, config).Rows)))];
        (long First, long Step, long Count) Rows(IReadOnlyList<int>? rows) => rows is null ? (0, 1, features) : (rows[0], 1, rows.Count / matrices);
        foreach (var (name, _) in targets)
        {
            RequireApplied(name, module, family);
        }

        return targets;
    }

    // How the file divides a tensor, unless llama.cpp takes updates of all of it only.
    private static (GgufSplit Split, IReadOnlyList<string> Names)? Pieces(string stored, GgufFamily family) =>
        family.TryToGguf(stored, out var place) && IsWithoutLora(place.Name, family) ? null : family.SplitOf(stored);

    private static bool IsWithoutLora(string name, GgufFamily family) => name.Split('.').Intersect(family.ModulesWithoutLora).Any();

    // Some rows or columns: every step-th from the first.
    private static Tensor Every(Tensor matrix, long dimension, long first, long step, long count)
    {
        using var places = tensor([.. Enumerable.Range(0, (int)count).Select(i => first + (step * i))], [count], device: matrix.device);
        return matrix.index_select(dimension, places);
    }

    private static void RequireApplied(string name, string module, GgufFamily family)
    {
        if (IsWithoutLora(name, family))
        {
            throw new InvalidDataException($"llama.cpp cannot apply a LoRA file with {module} for the architecture {family.Architecture}; export with --format gguf, which merges the adapter.");
        }
    }

    private static IReadOnlyList<GgufPlace> PlacesOf(string tensor, string module, GgufFamily family) => family.Places(tensor) is { Count: > 0 } places
        ? places
        : throw new InvalidDataException($"llama.cpp's architecture {family.Architecture} does not support an update of {module}; export with --format gguf, which merges the adapter.");

    private static GgufTensorToWrite Tensor(string name, long[] shape, Func<Tensor> values, double factor, GgufForm form) => new(name, GgufType.F32, form.FileShape(shape), stream =>
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using TorchSharp.Scalar scale = factor;
        var written = values().detach().to(float32, CPU).contiguous();
        new TensorRows(shape, GgufType.F32, form).Write(stream, Math.Abs(factor - 1) < 1e-12 ? written : written.mul(scale));
    });
}
