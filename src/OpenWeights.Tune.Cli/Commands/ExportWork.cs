using OpenWeights.Formats.Files;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Quantized;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Export.Gguf;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Writes an export, verifies it, and reports the result.</summary>
internal sealed partial class ExportWork : IDisposable
{
    private const long SmallModelBytes = 4L << 30;
    private readonly string _modelPath;
    private readonly IReadOnlyList<AdapterChoice> _choices;
    private readonly string? _quantization;
    private readonly string _output;
    private readonly bool? _verify;
    private readonly string _device;
    private readonly bool _anyBase;
    private LoadedModel? _base;
    private AdapterSet? _adapters;
    private bool _isMeta;

    internal ExportWork(string model, IReadOnlyList<AdapterChoice> adapters, string? quantization, string output, bool? verify, string device, bool anyBase)
    {
        _modelPath = NewTokens.FolderFor(ModelPath.Resolve(model, new DownloadConsole(), Signals.Stop), adapters.Select(static c => c.Folder));
        _choices = adapters;
        _quantization = quantization is "none" ? null : quantization;
        _output = output;
        _verify = verify;
        _device = device;
        _anyBase = anyBase;
    }

    /// <summary>Files of rows to compare on; empty for those of the adapter's run.</summary>
    internal IReadOnlyList<string> Data { get; init; } = [];

    /// <summary>How several adapters become one; null for a single adapter, or a sum that is merged.</summary>
    internal AdapterCombination? Combination { get; init; }

    /// <summary>Number of rows to compare.</summary>
    internal int DataRows { get; init; }

    /// <summary>Whether an adapter of a mixture's experts is written with an update of each.</summary>
    internal bool SeparatesExperts { get; init; }

    /// <summary>Result of the comparison; null if there was none.</summary>
    internal ExportComparison? Comparison { get; private set; }

    internal void Peft()
    {
        OpenBase();
        using var combined = Combined();
        var adapter = combined ?? Single();
        AtomicFolder.Write(_output, work =>
        {
            if (SeparatesExperts)
            {
                SeparateExperts.Save(adapter, work, ModelPath.NameOf(_base!.Folder.FolderPath));
            }
            else
            {
                PeftFolder.Save(adapter, work, ModelPath.NameOf(_base!.Folder.FolderPath), _base.Embedding is not null);
            }

            if (_base.Embedding is { } embedding)
            {
                EmbeddingFiles.Write(work, embedding, _base.Model.Config.HiddenSize);
                _base.Folder.CopyTokenizer(work);
            }

            if (_base.ChatTemplate is { } template)
            {
                AtomicFile.WriteText(Path.Combine(work, "chat_template.jinja"), template);
            }
        });
        var folder = AdapterFolder.Open(_output);
        using var written = PeftFolder.Weights(folder, _base!.Model.Config.Names);
        using var scope = NewDisposeScope();
        var tensors = PeftFolder.Tensors(adapter);
        foreach (var (name, tensor) in tensors.Where(_ => !SeparatesExperts))
        {
            if (!TensorFiles.Read(written, PeftFolder.FileName(name)).eq(tensor.cpu()).all().item<bool>())
            {
                throw new IOException($"{_output}: tensor {name} differs from what was written; check the disk.");
            }
        }

        Console.Out.WriteLine(SeparatesExperts
            ? $"adapter written to {ShownPath.Of(_output)} with {written.Tensors.Count} tensors, an update of each expert"
            : $"adapter written to {ShownPath.Of(_output)}; all {tensors.Count} tensors read back the same");
        foreach (var warning in AdapterLimits.Of(folder.Config, written))
        {
            Console.Error.WriteLine($"warning: {warning}");
        }

        // A combination computes something else than the sum of its adapters.
        if (combined is null && MayVerify())
        {
            Compare(AddAdapter);
        }
    }

    internal void Merged(string? dtypeName, long maxShardBytes, string? quantization)
    {
        TorchSharp.torch.ScalarType? dtype = dtypeName switch
        {
            "f32" => float32,
            "f16" => float16,
            "bf16" => bfloat16,
            _ => null,
        };
        var folder = ModelFolder.Open(_modelPath);
        var card = ModelCard.Write(folder, ModelPath.NameOf(_modelPath), [.. _choices.Select(static c => (c.Folder, c.Weight))]);
        var unties = false;
        if (IsPlainCopy && quantization is null or "none")
        {
            MergedExport.Write(folder, _output, dtype, maxShardBytes, card);
        }
        else
        {
            OpenBase();
            using var none = new CombinedAdapter([]);
            unties = MergedExport.Write(_base!, _adapters!.Active ?? none, _output, dtype, maxShardBytes, card, quantization);
        }

        Console.Out.WriteLine($"model written to {ShownPath.Of(_output)}{(quantization is null or "none" ? "" : $", quantized as {quantization}")}");
        TellQuantized(folder, "nf4, nf4_double, int8, fp8 or mxfp4 with --quantization");
        Tell(unties, "both are written, and config.json says tie_word_embeddings: false");
        if (MayVerify())
        {
            Verify(_output);
            Compare(comparison => AddFolder(comparison, _output));
        }
    }

    internal void Gguf(string? dtypeName)
    {
        var folder = ModelFolder.Open(_modelPath);
        var preset = dtypeName is null ? GgufExport.OwnPreset(folder) : GgufPreset.Of(dtypeName);
        var unties = false;
        if (IsPlainCopy)
        {
            _ = GgufExport.Write(folder, null, _output, preset, planned: plan => GgufText.Write(plan, folder));
        }
        else
        {
            OpenBase();
            unties = GgufExport.Write(folder, _adapters!.Active, _output, preset, _base!.Model, _base.ChatTemplate, plan => GgufText.Write(plan, folder), _base.Embedding);
        }

        Console.Out.WriteLine($"model written to {ShownPath.Of(_output)} ({preset.Name}, {Amount.Bytes(new FileInfo(_output).Length)})");
        TellQuantized(folder, "another type with --dtype");
        Tell(unties, "both are written");
        WriteModelfile(folder);
        if (!MayVerify())
        {
            return;
        }

        var unpacked = Directory.CreateTempSubdirectory("owt verify ").FullName;
        try
        {
            GgufFolder.Unpack(_output, unpacked);
            Verify(unpacked);
            Compare(comparison => AddGguf(comparison, _output, null, unpacked));
        }
        finally
        {
            Directory.Delete(unpacked, recursive: true);
        }
    }

    // Beside the file, with its name, for `ollama create`.
    private void WriteModelfile(ModelFolder folder)
    {
        var path = Path.ChangeExtension(_output, ".Modelfile");
        if (!OpenWeights.Tokenizers.Tokenizer.IsIn(folder.FolderPath))
        {
            return;
        }

        if (File.Exists(path))
        {
            Console.Out.WriteLine($"{ShownPath.Of(path)} exists already and was left as it is");
            return;
        }

        var (text, about) = OllamaModelfile.Write(folder, Path.GetFileName(_output), _base?.ChatTemplate);
        AtomicFile.WriteText(path, text);
        Console.Out.WriteLine($"Modelfile for Ollama written to {ShownPath.Of(path)}: ollama create NAME -f {ShownPath.Of(path)}. {about}");
    }

    internal void GgufLora()
    {
        OpenBase();
        var adapter = Single();
        GgufLoraExport.Write(_base!.Folder, adapter, _output);
        var tensors = GgufLoraExport.RequireSame(_base.Folder, adapter, _output);
        Console.Out.WriteLine($"adapter written to {ShownPath.Of(_output)}; all {tensors} tensors read back the same");
        if (MayVerify())
        {
            Compare(AddGgufLora);
        }
    }

    public void Dispose()
    {
        _adapters?.Dispose();
        _base?.Dispose();
    }

    // Without an adapter the decoder is not needed, so families that only llama.cpp runs can be exported too.
    private bool IsPlainCopy => _choices.Count == 0 && _quantization is null;

    // Most adapters need only meta weights, so that one tensor at a time is in memory.
    private void OpenBase()
    {
        _isMeta = _quantization is null && !_choices.Any(static c => PeftFolder.NeedsBaseValues(c.Folder));
        Use(_isMeta ? ModelLoader.LoadMeta(_modelPath, AdapterChoice.Labels(_choices)) : Load(), ModelSession.Warn);
    }

    private LoadedModel Load() => ModelLoader.Load(_modelPath, null, Devices.Find(_device), QuantizationSettings.Of(_quantization), labels: AdapterChoice.Labels(_choices));

    private void Use(LoadedModel loaded, Action<string>? warn)
    {
        _base = loaded;
        loaded.Embedding = AdapterChoice.Embedding(_choices) ?? loaded.Embedding;
        foreach (var warning in warn is null ? [] : loaded.Warnings)
        {
            warn!(warning);
        }

        loaded.ChatTemplate = _choices.Select(static c => PeftFolder.ChatTemplate(c.Folder)).FirstOrDefault(static t => t is not null);
        _adapters = new AdapterSet(loaded.Model);
        foreach (var choice in _choices)
        {
            _ = _adapters.Load(choice.Folder, choice.Folder, warn, _anyBase);
        }

        if (Combination is null)
        {
            _adapters.Use([.. _choices.Select(static c => (c.Folder, c.Weight))]);
        }
    }

    private PeftAdapter? Combined()
    {
        if (Combination is not { } how)
        {
            return null;
        }

        return WeightedAdapter.Create([.. _choices.Select(c => (_adapters![c.Folder], c.Weight))], how);
    }

    private PeftAdapter Single() => _adapters![_choices[0].Folder];

    private void Tell(bool unties, string how)
    {
        if (unties)
        {
            Console.Out.WriteLine($"embedding and output head were tied and now differ: {how}");
        }

        if (_quantization is not null)
        {
            Console.Out.WriteLine($"the base's linear layers have the values after {_quantization} quantization, as in training, not the original ones; without --base-quantization the adapter is merged into the original weights");
        }
    }

    // What a merge into weights that are quantized already is made of.
    private void TellQuantized(ModelFolder folder, string other)
    {
        if (QuantizedModel.Of(folder.Config, folder.FolderPath) is { } quantized)
        {
            Console.Out.WriteLine($"the base is quantized ({quantized.Description}): {(_choices.Count == 0 ? "its" : "the adapter was merged into its")} dequantized values{(_choices.Count == 0 ? " were written" : "")}; {other}");
        }
    }

    private bool MayVerify()
    {
        if (_verify is { } wanted)
        {
            return wanted;
        }

        var folder = ModelFolder.Open(_modelPath);
        if (!FamilyRegistry.Knows(folder.Config))
        {
            Console.Out.WriteLine("the exported model was not verified: this version does not run models of this family");
            return false;
        }

        using var weights = folder.OpenWeights();
        if (weights.ByteLength < SmallModelBytes)
        {
            return true;
        }

        Console.Out.WriteLine("the exported model was not verified because it is large; use --verify");
        return false;
    }

    // Meta weights cannot be computed with.
    private void LoadBase()
    {
        if (_base is null || _isMeta)
        {
            Dispose();
            Use(Load(), warn: null);
            _isMeta = false;
        }
    }

    private void Verify(string folder)
    {
        LoadBase();
        var found = MergedExport.Verify(_base!, folder);
        if (!double.IsFinite(found.Difference))
        {
            ModelSession.Warn("the logits of what was written are not finite numbers: the files of the base or the adapter are damaged, or the dtype that was written is too narrow.");
        }

        Console.Out.WriteLine(
            $"read back and run: its logits differ from {(_choices.Count == 0 ? "the base's" : "base and adapter's")} by at most {Amount.Number(found.Difference, "0.0e0")} "
            + $"(the largest logit is {Amount.Number(found.Largest, "F1")}); divergence of its next-token probabilities {Amount.Number(found.Divergence, "0.0e0")} nats a token; "
            + $"the likeliest token is the same at {found.Agreeing} of {found.Positions} positions");
    }
}
