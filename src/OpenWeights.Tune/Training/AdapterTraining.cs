using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Training of an adapter over a base whose own weights stay as they are.</summary>
public sealed class AdapterTraining : ITrainedModel
{
    private readonly LoadedModel _base;
    private readonly LoraAdapter _adapter;

    /// <summary>Training of an adapter.</summary>
    /// <param name="base">The base; it becomes this object's to dispose.</param>
    /// <param name="adapter">The adapter, on the base; likewise.</param>
    public AdapterTraining(LoadedModel @base, LoraAdapter adapter)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        _base = @base;
        _adapter = adapter;
        Parameters = [.. adapter.Parameters.Select(static p => new TrainedParameter(p.Name, p.Parameter, Decays: true))];
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
    public void Save(string folder) => PeftFolder.Save(_adapter, folder, ModelPath.NameOf(_base.Folder.FolderPath));

    /// <inheritdoc/>
    public void Restore(string folder)
    {
        using var weights = AdapterFolder.Open(folder).OpenWeights();
        using var nothing = no_grad();
        foreach (var (name, parameter) in _adapter.Parameters)
        {
            using var scope = NewDisposeScope();
            _ = parameter.copy_(TensorFiles.Read(weights, $"base_model.model.{name}"));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _adapter.Dispose();
        _base.Dispose();
    }
}
