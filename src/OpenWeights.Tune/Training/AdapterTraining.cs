using OpenWeights.Formats.Files;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training;

/// <summary>Training of an adapter over a base whose own weights stay as they are.</summary>
public sealed class AdapterTraining : ITrainedModel
{
    private readonly LoadedModel _base;
    private readonly LoraAdapter _adapter;

    /// <summary>Training of an adapter.</summary>
    /// <param name="base">The base; it becomes this object's to dispose.</param>
    /// <param name="adapter">The adapter, on the base; likewise.</param>
    /// <param name="rates">How its parameters' learning rates differ; null for not at all.</param>
    /// <param name="decayNormsAndBiases">Whether weight decay applies to norms and biases that are trained along too.</param>
    public AdapterTraining(LoadedModel @base, LoraAdapter adapter, LoraPlusRates? rates = null, bool decayNormsAndBiases = true)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        _base = @base;
        _adapter = adapter;

        // What is trained here is made for this base, whatever it began as.
        adapter.Fingerprint ??= BaseFingerprint.Of(adapter.Base);
        Parameters =
        [
            .. from part in adapter.Parts
               from parameter in part.Parameters
               let decays = decayNormsAndBiases || part is not ReplacedWeight || parameter.Parameter.ndim > 1
               select new TrainedParameter(parameter.Name, parameter.Parameter, decays, rates?.Factor(part, parameter.Name, parameter.Parameter) ?? 1),
        ];
    }

    /// <inheritdoc/>
    public CausalLanguageModel Model => _base.Model;

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
    public void Save(string folder)
    {
        PeftFolder.Save(_adapter, folder, ModelPath.NameOf(_base.Folder.FolderPath));
        if (_base.ChatTemplate is { } template)
        {
            AtomicFile.WriteText(Path.Combine(folder, PeftFolder.TemplateName), template);
        }
    }

    /// <inheritdoc/>
    public void Restore(string folder) => PeftFolder.Restore(_adapter, folder);

    /// <inheritdoc/>
    public void Dispose()
    {
        _adapter.Dispose();
        _base.Dispose();
    }
}
