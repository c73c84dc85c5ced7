using System.Runtime.InteropServices;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Gguf.Families;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export.Gguf;

/// <summary>Exports a model, optionally with merged adapters, as a GGUF file for llama.cpp, one tensor at a time.</summary>
internal static class GgufExport
{
    // Old versions of transformers saved these beside the weights; readers compute them from the config.
    private static readonly string[] s_derived = ["rotary_emb.inv_freq", "attn.masked_bias", "attn.bias"];

    /// <summary>Writes the complete file, or nothing on failure.</summary>
    /// <param name="folder">The base model.</param>
    /// <param name="adapters">The adapters to merge in float32; null for none.</param>
    /// <param name="path">The file.</param>
    /// <param name="preset">The types of the tensors.</param>
    /// <param name="model">The base model, if it is quantized and its dequantized values are to be exported; otherwise null.</param>
    /// <param name="chatTemplate">A chat template that replaces the base model's; null for the base model's.</param>
    /// <param name="planned">Called with the plan before writing; null for none.</param>
    /// <param name="embedding">How an embedding model makes vectors; null for what the folder says.</param>
    /// <returns>Whether embedding and output head, tied in the base model, were untied.</returns>
    /// <exception cref="InvalidDataException">llama.cpp does not support the model or its tokenizer; the message names the
    /// cause.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public static bool Write(ModelFolder folder, CombinedAdapter? adapters, string path, GgufPreset preset, CausalLanguageModel? model = null, string? chatTemplate = null, Action<GgufPlan>? planned = null, EmbeddingSettings? embedding = null)
    {
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(preset);
        adapters?.RequireNoPrompt("merged");
        if (model?.Config.Labels is not null || LabelHead.Of(folder.Config, folder.FolderPath) is not null)
        {
            throw new InvalidDataException($"{folder.FolderPath}: llama.cpp does not read the heads of reward models and classifiers of this form; export with --format merged, for transformers and vLLM.");
        }

        var configPath = Path.Combine(folder.FolderPath, ModelFolder.ConfigName);
        using var stored = folder.OpenWeights();
        using var replicated = adapters is null ? null : ReplicatedLayers.Of(folder, stored, adapters);
        var (weights, config) = (replicated?.Weights ?? stored, new ConfigJson(replicated?.TextConfig ?? folder.TextConfig, configPath));
        var family = GgufFamilies.OfModelType(config.Text("model_type"), configPath);
        var metadata = new GgufMetadata(path);
        var vocabulary = new GgufMetadata(path);
        var names = Names(folder);
        VocabularySection.Write(folder, checked((int)weights.GetTensor(names.EmbeddingWeight).Shape[0]), vocabulary, chatTemplate);
        metadata.Add("general.architecture", family.Architecture);
        metadata.Add("general.type", "model");
        metadata.Add("general.file_type", preset.FileType);
        metadata.Add("general.quantization_version", 2u);
        GeneralSection.WriteModel(folder, adapters is not null, Parameters(weights), vocabulary.List<string>("tokenizer.ggml.tokens") ?? [], metadata);
        family.WriteSettings(config, metadata);
        if ((embedding ?? EmbeddingFiles.Find(folder.FolderPath)) is { } vectors)
        {
            WritePooling(vectors, family.Architecture, folder, metadata);
        }

        metadata.AddAll(vocabulary);
        if (metadata.Text("tokenizer.ggml.model") == "no_vocab" && !metadata.Contains($"{family.Architecture}.vocab_size"))
        {
            metadata.Add($"{family.Architecture}.vocab_size", (uint)config.Int("vocab_size"));
        }

        using var none = new CombinedAdapter([]);
        var tied = IsTied(config, family, weights, names);
        var plan = new MergePlan(weights, names, tied, adapters ?? none, model);
        if (plan.Vocabulary is { } tokens)
        {
            throw new InvalidDataException($"the adapter has a vocabulary of {tokens} tokens, and the base's tokenizer does not know the new ones; export with --format merged, add the tokenizer of the adapter's run, and export that model as GGUF.");
        }

        if (!(tied && !plan.Unties) && !family.HasHead)
        {
            throw new InvalidDataException($"llama.cpp's architecture {family.Architecture} uses the embedding as the output head, but {(plan.Unties ? "the adapter changes one of them without the other" : "the model has both")}; export with --format merged or --format peft for another program.");
        }

        family.WriteTensorSettings(config, name => SettingValues(plan, name), metadata);
        using var own = preset.KeepsOwn && replicated is null && GgufFolder.Target(folder.FolderPath) is { } target ? GgufFile.Open(target) : null;
        var written = Tensors(new Source(weights, config, family, plan, tied && !plan.Unties, own, names), preset).ToList();
        planned?.Invoke(Plan(preset, written));
        GgufWriter.Write(path, metadata, [.. written.Select(static w => w.Tensor)]);
        return plan.Unties;
    }

    // llama_pooling_type: 1 is the mean, 3 the last token.
    private static void WritePooling(EmbeddingSettings vectors, string architecture, ModelFolder folder, GgufMetadata metadata)
    {
        if (vectors.IsBidirectional)
        {
            var decoder = ModelLoader.ReadConfig(folder);
            if (Enumerable.Range(0, decoder.LayerCount).Any(i => decoder.LayerSettings(i).Mixer?.Needs is { SlidingWindow: not null } or { ChunkSize: not null }))
            {
                throw new InvalidDataException($"{folder.FolderPath}: llama.cpp's {architecture} looks only back within a window of attention, and this embedding model looks both ways; export with --format merged, for sentence-transformers and vLLM.");
            }

            metadata.Add($"{architecture}.attention.causal", false);
        }

        metadata.Add($"{architecture}.pooling_type", vectors.Pooling == EmbeddingPooling.Mean ? 1u : 3u);
    }

    private static GgufPlan Plan(GgufPreset preset, List<(GgufTensorToWrite Tensor, GgufType? Wanted)> written)
    {
        var fallbacks = written.Where(static w => w.Wanted is { } wanted && wanted != w.Tensor.Info.Type).GroupBy(static w => (w.Wanted!.Value, w.Tensor.Info.Type)).Select(static g =>
            new GgufFallback(
                g.Key.Value, g.Key.Type, g.Count(), g.Sum(static w => w.Tensor.Info.ByteLength),
                g.Sum(w => w.Tensor.Info.ElementCount * g.Key.Value.BlockBytes() / g.Key.Value.BlockLength()), g.First().Tensor.Info.RowLength));
        return new GgufPlan(preset, written.Sum(static w => w.Tensor.Info.ByteLength), [.. fallbacks.OrderByDescending(static f => f.Bytes)])
        {
            MatrixBytes = written.Where(static w => w.Wanted is not null).Sum(static w => w.Tensor.Info.ByteLength),
        };
    }

    /// <summary>The preset that keeps a model's own type; for a GGUF file the type of each tensor.</summary>
    /// <param name="folder">The model.</param>
    public static GgufPreset OwnPreset(ModelFolder folder)
    {
        ArgumentNullException.ThrowIfNull(folder);
        if (GgufFolder.Target(folder.FolderPath) is { } path)
        {
            using var file = GgufFile.Open(path);
            return GgufPreset.OfFile(file);
        }

        using var weights = folder.OpenWeights();
        return GgufPreset.Of(ModelLoader.StoredDType(weights) switch
        {
            ScalarType.BFloat16 => "bf16",
            ScalarType.Float16 => "f16",
            _ => "f32",
        });
    }

    private static long Parameters(CheckpointWeights weights) => weights.Tensors.Sum(static t => t.Shape.Aggregate(1L, static (product, size) => product * size));

    private static IEnumerable<(GgufTensorToWrite Tensor, GgufType? Wanted)> Tensors(Source source, GgufPreset preset)
    {
        var (weights, config, family, plan, tied, own, _) = source;
        var facts = new GgufModelFacts(family.Layers(config), tied && !family.WantsHead, family.Experts(config), family.IsOf70Billion(config), family.QueriesPerKey(config));
        foreach (var (name, divisors) in family.RotaryTensors(config))
        {
            yield return (new GgufTensorToWrite(name, GgufType.F32, [divisors.Length], stream => stream.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(divisors))), null);
        }

        var places = Places(source).ToList();
        foreach (var (name, shape) in family.UnusedTensors(config).Where(unused => places.TrueForAll(p => p.Name != unused.Name)))
        {
            var type = preset.TypeOf(name, shape, facts);
            yield return (new GgufTensorToWrite(name, type, shape, new TensorRows(shape, type, GgufForm.Same).WriteZeros), null);
        }

        foreach (var (name, parts) in places)
        {
            var shape = parts[0].Shape;
            var form = parts[0].View is null ? family.FormOf(name, config) : GgufForm.Same;
            IReadOnlyList<long> whole = parts[0].IsStacked ? [parts.Count, .. form.FileShape(shape)] : form.FileShape(shape);
            if (own?.Contains(name) == true && own.GetTensor(name) is var stored && stored.Shape.SequenceEqual(whole) && parts.TrueForAll(p => plan.IsAsStored(p.Name)))
            {
                yield return (new GgufTensorToWrite(name, stored.Type, whole, stream => Copy(own, stored, stream)), null);
                continue;
            }

            var type = preset.TypeOf(name, whole, facts);
            var rows = new TensorRows(shape, type, form);
            yield return (new GgufTensorToWrite(name, type, whole, stream => parts.ForEach(part => WriteTensor(stream, rows, weights, plan, part))), preset.WantedOf(name, whole, facts));
        }
    }

    // The checkpoint tensors that make up each tensor of the file: usually one, but the matrices of experts are stacked.
    private static IEnumerable<(string Name, List<Part> Parts)> Places(Source source)
    {
        var places = new List<(string Name, int Number, Part Part)>();
        foreach (var (tensor, entry) in source.Plan.Tensors.Where(static t => !Array.Exists(s_derived, d => t.Name.EndsWith(d, StringComparison.Ordinal))))
        {
            // llama.cpp stacks each matrix of the experts, so the parts that checkpoints usually have are put together in another way.
            var usual = Usual(tensor, source.Names);
            foreach (var stored in source.Family.Facts.Layout?.PartsOf(usual, entry.Shape) ?? [new StoredPart(usual, entry.Shape, 0)])
            {
                if (source.Family.IsSetting(stored.Name))
                {
                    continue;
                }

                if (source.Family.SplitOf(stored.Name) is { } split)
                {
                    places.AddRange(Pieces(tensor, entry, stored, split, source.Config));
                    continue;
                }

                var own = source.Family.Places(stored.Name);
                if (own.Count == 0)
                {
                    throw new InvalidDataException($"{entry.FilePath}: llama.cpp's architecture {source.Family.Architecture} has no tensor corresponding to {tensor}.");
                }

                places.AddRange(own.Where(place => source.Family.Has(place.Name, source.Config)).Select(place => (place.Name, place.Number ?? 0, new Part(tensor, entry, stored, place.Number is not null))));
            }

            if (tensor == source.Names.EmbeddingWeight && source.Tied && source.Family.WantsHead)
            {
                places.Add(("output.weight", 0, new Part(tensor, entry, new StoredPart(tensor, entry.Shape, 0), IsStacked: false)));
            }
        }

        foreach (var place in places.GroupBy(static p => p.Name))
        {
            var parts = place.OrderBy(static p => p.Number).ToList();
            if (parts.Where(static (p, i) => p.Number != i).Any() || parts.Exists(p => !p.Part.Shape.SequenceEqual(parts[0].Part.Shape)))
            {
                throw new InvalidDataException($"{parts[0].Part.Source.FilePath}: the matrices of {place.Key} are incomplete or differ in size; check whether a weight file is missing.");
            }

            yield return (place.Key, [.. parts.Select(static p => p.Part)]);
        }
    }

    // A part for each slab of each piece.
    private static IEnumerable<(string Name, int Number, Part Part)> Pieces(string tensor, TensorEntry entry, StoredPart stored, (GgufSplit Split, IReadOnlyList<string> Names) split, ConfigJson config)
    {
        var shapes = split.Split.Shapes(stored.Shape, config);
        var (views, slabs) = (split.Split.Views(shapes), (int)split.Split.Slabs(shapes));
        var count = stored.Shape.Aggregate(1L, static (product, size) => product * size) / slabs;
        foreach (var (name, view) in split.Names.Zip(views))
        {
            for (var slab = 0; slab < slabs; slab++)
            {
                yield return (name, slab, new Part(tensor, entry, new StoredPart(stored.Name, [count], stored.First + (slab * count)), split.Split.IsStacked) { View = view });
            }
        }
    }

    private static IReadOnlyList<float>? SettingValues(MergePlan plan, string name)
    {
        if (plan.Tensors.FirstOrDefault(t => t.Name == name) is not { Source: { } source })
        {
            return null;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        return MemoryMarshal.Cast<byte, float>(plan.Values(name, source).to(float32).contiguous().cpu().bytes).ToArray();
    }

    /// <summary>Whether embedding and output head are tied.</summary>
    internal static bool IsTied(ConfigJson config, GgufFamily family, CheckpointWeights weights, DecoderNames names) =>
        ((config.Has("tie_word_embeddings") ? config.Flag("tie_word_embeddings") : family.Facts.TiedEmbeddings) && !HeadTie.IsBroken(weights, names)) || !weights.TryGetTensor(names.HeadWeight, out _);

    /// <summary>Names of the modules of the model that is written: of a multimodal model, of the text model inside.</summary>
    internal static DecoderNames Names(ModelFolder folder) => FamilyRegistry.Read(folder.Config, Path.Combine(folder.FolderPath, ModelFolder.ConfigName)).Names;

    /// <summary>The name that a tensor of a text model inside another would have in a text model alone.</summary>
    internal static string Usual(string name, DecoderNames names) =>
        !names.Stack.Contains('.', StringComparison.Ordinal) ? name
        : name.StartsWith($"{names.Stack}.", StringComparison.Ordinal) ? DecoderNames.Usual.Stack + name[names.Stack.Length..]
        : name.StartsWith($"{names.Head}.", StringComparison.Ordinal) ? DecoderNames.Usual.Head + name[names.Head.Length..]
        : name;

    // As in the base model's file.
    private static void Copy(GgufFile file, GgufTensorInfo tensor, Stream stream)
    {
        var buffer = new byte[Math.Min(tensor.ByteLength, 1 << 22)];
        for (var done = 0L; done < tensor.ByteLength; done += buffer.Length)
        {
            var part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, tensor.ByteLength - done));
            file.ReadBytes(tensor, done, part);
            stream.Write(part);
        }
    }

    private static void WriteTensor(Stream stream, TensorRows rows, CheckpointWeights weights, MergePlan plan, Part tensor)
    {
        if (tensor.View is not null)
        {
            rows.Write(stream, tensor.View.Gather(Slab(weights, plan, tensor)));
            return;
        }

        if (plan.IsAsStored(tensor.Name))
        {
            rows.Write(stream, weights, tensor.Source, tensor.Stored.First);
            return;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        rows.Write(stream, plan.Values(tensor.Name, tensor.Source, tensor.Stored.First, tensor.Stored.Shape).contiguous());
    }

    private static float[] Slab(CheckpointWeights weights, MergePlan plan, Part tensor)
    {
        var values = new float[checked((int)tensor.Stored.Shape[0])];
        if (plan.IsAsStored(tensor.Name))
        {
            TensorRows.Read(weights, tensor.Source, tensor.Stored.First, values);
            return values;
        }

        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(plan.Values(tensor.Name, tensor.Source, tensor.Stored.First, tensor.Stored.Shape).contiguous().bytes).CopyTo(values);
        return values;
    }

    private sealed record Source(CheckpointWeights Weights, ConfigJson Config, GgufFamily Family, MergePlan Plan, bool Tied, GgufFile? Own, DecoderNames Names);

    private sealed record Part(string Name, TensorEntry Source, StoredPart Stored, bool IsStacked)
    {
        // The view of the part that is written, if it is not all of it in its order.
        internal GgufView? View { get; init; }

        internal IReadOnlyList<long> Shape => View?.Shape ?? Stored.Shape;
    }
}
