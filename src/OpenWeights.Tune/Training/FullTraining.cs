using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Export;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Trains the weights of a model, all or some of them.</summary>
internal sealed class FullTraining : ITrainedModel
{
    private readonly LoadedModel _loaded;

    /// <summary>Creates the training of a model.</summary>
    /// <param name="loaded">The model; this object takes ownership.</param>
    /// <param name="decayNormsAndBiases">Whether weight decay also applies to norms and biases.</param>
    /// <param name="trains">Selects the trained weights; null for all. The others have no gradient and no optimizer state.</param>
    /// <param name="rates">Factors of the learning rate by name pattern; null for none.</param>
    /// <exception cref="ConfigException">A pattern matches no parameter.</exception>
    public FullTraining(LoadedModel loaded, bool decayNormsAndBiases, TrainedWeights? trains = null, IReadOnlyDictionary<string, double>? rates = null)
    {
        ArgumentNullException.ThrowIfNull(loaded);
        _loaded = loaded;
        Parameters = NamedRates.Apply(TrainedParameters.Of(loaded.Model, decayNormsAndBiases, trains), rates ?? new Dictionary<string, double>());
        foreach (var trained in Parameters)
        {
            trained.Parameter.requires_grad = true;
        }
    }

    /// <summary>Whether the model stays with the caller.</summary>
    internal bool LeavesModel { get; init; }

    /// <inheritdoc/>
    public CausalLanguageModel Model => _loaded.Model;

    /// <inheritdoc/>
    public IReadOnlyList<TrainedParameter> Parameters { get; }

    /// <inheritdoc/>
    public string ResultName => "model";

    /// <inheritdoc/>
    public bool Training
    {
        set => _loaded.Model.train(value);
    }

    /// <inheritdoc/>
    public void Save(string folder) => ModelFolderWriter.Write(_loaded, folder);

    /// <inheritdoc/>
    public void Restore(string folder)
    {
        using var weights = ModelFolder.Open(folder).OpenWeights();
        using var nothing = no_grad();
        foreach (var trained in Parameters)
        {
            using var scope = NewDisposeScope();
            Model.Stack.LayerWeights?.Show(trained.Name, writes: true);
            _ = trained.Parameter.copy_(TensorFiles.Read(weights, trained.Name));
        }

        Model.Stack.LayerWeights?.Show(null);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!LeavesModel)
        {
            _loaded.Dispose();
        }
    }
}
