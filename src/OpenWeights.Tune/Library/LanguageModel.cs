using OpenWeights.Formats.Files;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune;

/// <summary>
/// A language model in this process: it is loaded, given an adapter, trained, asked and saved. It is what the commands of owt do, by the same code. Calls from
/// several threads wait for each other.
/// </summary>
public sealed partial class LanguageModel : IDisposable
{
    private readonly SemaphoreSlim _use = new(1);
    private readonly LoadedModel _loaded;
    private readonly ModelSection _settings;
    private readonly QuantizationSection? _quantization;
    private readonly string _path;
    private readonly List<string> _warnings = [];
    private Tokenizer? _tokenizer;
    private PeftAdapter? _adapter;
    private AdapterSection? _section;
    private long _seed;
    private bool _adapterIsTrained;
    private bool _weightsAreTrained;
    private ServedParts? _served;

    private LanguageModel(LoadedModel loaded, string path, ModelSection settings, QuantizationSection? quantization)
    {
        (_loaded, _path, _settings, _quantization) = (loaded, path, settings, quantization);
        loaded.Model.RouterLossWeight = settings.RouterAuxLoss ?? loaded.Model.RouterLossWeight;
        loaded.ChatTemplate = NamedTemplates.Of(new RunConfig { Model = settings }, path);
        _warnings.AddRange(loaded.Warnings);
    }

    /// <summary>Loads a model.</summary>
    /// <param name="model">A folder, a GGUF file, or ORG/NAME on the Hugging Face Hub, from where it is downloaded once; or the folder of an adapter, or of a
    /// run, whose base is loaded with it.</param>
    /// <param name="settings">Its settings, those of the section model in YAML; null for the defaults. The path in them is not used.</param>
    /// <param name="quantization">Quantization of the weights as they are loaded; null for none.</param>
    /// <exception cref="ConfigException">A setting is invalid; the exception lists all problems.</exception>
    /// <exception cref="InvalidDataException">The model is invalid, or of a family that is not known.</exception>
    /// <exception cref="IOException">A file is missing, or cannot be read or downloaded.</exception>
    /// <exception cref="TorchUnavailableException">There is no libtorch, or it cannot be loaded.</exception>
    public static LanguageModel Load(string model, ModelSection? settings = null, QuantizationSection? quantization = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(model);
        var (named, adapter) = ModelPath.WithAdapter(model);
        var section = (settings ?? new ModelSection()) with { Path = named };
        SettingCheck.Require(new RunConfig { Model = section, Quantization = quantization }, "model", "quantization");
        if (section.NewTokens.Count > 0)
        {
            throw new ConfigException([new ConfigProblem("", "model.new_tokens", "a model is loaded as it is; add tokens with a TrainingRun.")]);
        }

        Devices.UseAllCores();
        var path = ModelPath.Resolve(named);
        path = adapter is null ? path : NewTokens.FolderFor(path, [adapter]);
        var loaded = ModelLoader.LoadOnto(path, Devices.DType(section.Dtype), Devices.Find(section.Device.Values), TrainedModel.Quantization(quantization), section.KeepsQuantized);
        try
        {
            var made = new LanguageModel(loaded, path, section with { Path = path }, quantization);
            return adapter is null ? made : made.AddAdapter(new AdapterSection { Path = adapter });
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <summary>The model's tokenizer, with the chat template that is used.</summary>
    /// <exception cref="IOException">The model has none.</exception>
    public Tokenizer Tokenizer => _tokenizer ??= Tokenizer.Load(_loaded.Folder.FolderPath) is var own && _loaded.ChatTemplate is { } template ? own.WithChatTemplate(template) : own;

    /// <summary>Whether the model has an adapter.</summary>
    public bool HasAdapter => _section is not null;

    /// <summary>Warnings about the model and its adapter.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>
    /// Puts an adapter on the model, in the place of the one that it has: a new one, which training trains instead of the model's weights, or, with
    /// <see cref="AdapterSection.Path"/>, one that is there already.
    /// </summary>
    /// <param name="adapter">Its settings, those of the section adapter in YAML; null for the defaults (LoRA of rank 16 on all linear layers).</param>
    /// <param name="seed">Seed of a new adapter's first values, as the seed of a run is.</param>
    /// <returns>This model.</returns>
    /// <exception cref="ConfigException">A setting is invalid; the exception lists all problems.</exception>
    /// <exception cref="InvalidDataException">The adapter does not fit the model.</exception>
    public LanguageModel AddAdapter(AdapterSection? adapter = null, long seed = 42)
    {
        var section = adapter ?? new AdapterSection();
        var config = new RunConfig { Model = _settings, Adapter = section, Quantization = _quantization, Seed = seed };
        SettingCheck.Require(config, "adapter");
        using var use = Take();
        Remove();
        if (section.Path is { } folder)
        {
            _adapter = PeftFolder.Load(_loaded.Model, folder, _warnings.Add, section.AnyBase);
            (_loaded.ChatTemplate, _tokenizer) = (PeftFolder.ChatTemplate(folder) ?? _loaded.ChatTemplate, null);
        }
        else if (!TrainedModel.NeedsData(section))
        {
            _adapter = TrainedModel.NewAdapter(_loaded.Model, section, config, _path, startData: null);
        }

        (_section, _seed, _adapterIsTrained) = (section, seed, false);
        if (_adapter is not null)
        {
            _adapter.Training = false;
        }

        return this;
    }

    /// <summary>Takes the adapter off the model, and frees it.</summary>
    public void RemoveAdapter()
    {
        using var use = Take();
        Remove();
    }

    /// <summary>Saves the adapter as a PEFT folder, which PEFT, vLLM and the commands of owt read.</summary>
    /// <param name="folder">The folder; it may not exist yet, or must be empty.</param>
    /// <exception cref="InvalidOperationException">The model has no adapter.</exception>
    /// <exception cref="IOException">The folder cannot be written, or is not empty.</exception>
    public void SaveAdapter(string folder)
    {
        using var use = Take();
        var adapter = _adapter ?? throw new InvalidOperationException(
            _section is null ? "the model has no adapter; AddAdapter adds one, and SaveMerged saves the model." : "the adapter has no values yet: they are computed from the rows that it is trained on.");
        AtomicFolder.Write(folder, path => AdapterTraining.Save(_loaded, adapter, path));
    }

    /// <summary>Saves the model, with the adapter merged into its weights, as a Hugging Face folder.</summary>
    /// <param name="folder">The folder; it may not exist yet, or must be empty.</param>
    /// <param name="dtype">Data type of the weights: float32, bfloat16 or float16; auto for the model's own.</param>
    /// <exception cref="InvalidDataException">The adapter cannot be merged.</exception>
    /// <exception cref="IOException">The folder cannot be written, or is not empty.</exception>
    public void SaveMerged(string folder, string dtype = "auto")
    {
        using var use = Take();
        SavedModel.Merged(_loaded, _adapter, _weightsAreTrained, folder, Devices.DType(dtype));
    }

    /// <summary>Saves the model, with the adapter merged into its weights, as a GGUF file, which llama.cpp and Ollama read.</summary>
    /// <param name="file">The file.</param>
    /// <param name="type">How weights are packed: f32, f16, bf16, q8_0, q4_k_m and others, as `owt export --format gguf --dtype` names them.</param>
    /// <exception cref="InvalidDataException">The family has no counterpart in llama.cpp, or the adapter cannot be merged.</exception>
    /// <exception cref="IOException">The file cannot be written.</exception>
    public void SaveGguf(string file, string type = "q8_0")
    {
        using var use = Take();
        SavedModel.Gguf(_loaded, _adapter, _weightsAreTrained, file, type);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _served?.Dispose();
        _adapter?.Dispose();
        _adapter = null;
        _loaded.Dispose();
        _use.Dispose();
    }

    // One call at a time uses the model.
    private Use Take(CancellationToken stop = default)
    {
        _use.Wait(stop);
        var use = new Use(_use);
        if (_served is not null)
        {
            use.Dispose();
            throw new InvalidOperationException("a chat client or an embedding generator has the model; dispose it first.");
        }

        return use;
    }

    private void Remove()
    {
        _adapter?.Dispose();
        (_adapter, _section) = (null, null);
    }

    private readonly struct Use(SemaphoreSlim held) : IDisposable
    {
        public void Dispose() => held.Release();
    }
}
