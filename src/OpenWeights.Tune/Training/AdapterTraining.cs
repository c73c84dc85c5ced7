using OpenWeights.Formats.Files;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training;

/// <summary>Trains an adapter on a frozen base model.</summary>
internal sealed class AdapterTraining : ITrainedModel
{
    private readonly LoadedModel _base;
    private readonly PeftAdapter _adapter;

    /// <summary>Creates the training of an adapter.</summary>
    /// <param name="base">The base model; this object takes ownership.</param>
    /// <param name="adapter">The adapter on it; this object takes ownership.</param>
    /// <param name="rates">Learning rates of its parameters; null if they are all equal.</param>
    /// <param name="decayNormsAndBiases">Whether weight decay also applies to trained norms and biases.</param>
    /// <param name="options">What else the optimizer's settings say.</param>
    /// <exception cref="ConfigException">A pattern of the options matches no parameter.</exception>
    public AdapterTraining(LoadedModel @base, PeftAdapter adapter, LoraPlusRates? rates = null, bool decayNormsAndBiases = true, AdapterTrainingOptions options = default)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        _base = @base;
        _adapter = adapter;

        // The trained adapter belongs to this base model, whatever it was initialized from.
        adapter.Fingerprint ??= BaseFingerprint.Of(adapter.Base);
        Parameters = NamedRates.Apply(TrainedParameters.Of(adapter, rates, decayNormsAndBiases, options.FreezesA), options.Rates ?? new Dictionary<string, double>());
    }

    /// <inheritdoc/>
    public CausalLanguageModel Model => _base.Model;

    /// <summary>Whether model and adapter stay with the caller.</summary>
    internal bool LeavesModel { get; init; }

    /// <summary>The adapter.</summary>
    internal PeftAdapter Adapter => _adapter;

    /// <inheritdoc/>
    public IReadOnlyList<TrainedParameter> Parameters { get; }

    /// <inheritdoc/>
    public string ResultName => "adapter";

    /// <inheritdoc/>
    public bool Training
    {
        set => _adapter.Training = value;
    }

    /// <inheritdoc/>
    public TorchSharp.torch.Tensor? Penalty() => _adapter.Schedule?.Penalty();

    /// <inheritdoc/>
    public void Stepped(long step, long steps) => _adapter.Schedule?.Stepped(step, steps);

    /// <inheritdoc/>
    public void Save(string folder) => Save(_base, _adapter, folder);

    /// <summary>Saves an adapter of a model, with what a program needs beside it.</summary>
    /// <param name="base">The model.</param>
    /// <param name="adapter">The adapter.</param>
    /// <param name="folder">The folder; created if missing.</param>
    internal static void Save(LoadedModel @base, PeftAdapter adapter, string folder)
    {
        PeftFolder.Save(adapter, folder, ModelPath.NameOf(@base.Folder.FolderPath), @base.Embedding is not null);
        if (@base.Embedding is { } embedding)
        {
            EmbeddingFiles.Write(folder, embedding, @base.Model.Config.HiddenSize);
            @base.Folder.CopyTokenizer(folder);
        }

        // With the tokenizer, PEFT's AutoPeftModel gives the base the rows that the adapter needs.
        if (ModelOverlay.Target(@base.Folder.FolderPath) is not null)
        {
            @base.Folder.CopyTokenizer(folder);
        }

        if (@base.ChatTemplate is { } template)
        {
            AtomicFile.WriteText(Path.Combine(folder, PeftFolder.TemplateName), template);
        }
    }

    /// <inheritdoc/>
    public void Restore(string folder) => PeftFolder.Restore(_adapter, folder);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!LeavesModel)
        {
            _adapter.Dispose();
            _base.Dispose();
        }
    }
}

/// <summary>How an adapter is trained.</summary>
/// <param name="FreezesA">Whether the matrices A of low-rank updates are not trained (LoRA-FA).</param>
/// <param name="Rates">Factors of the learning rate by name pattern; null for none.</param>
internal readonly record struct AdapterTrainingOptions(bool FreezesA, IReadOnlyDictionary<string, double>? Rates);
