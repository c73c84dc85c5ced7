using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// Exponential moving average of the trained weights, float32, from their initial values on: after each step average = decay x average +
/// (1 - decay) x weights, of the exact values that the optimizer updates.
/// </summary>
internal sealed class WeightAverage : IAveragedWeights, IDisposable
{
    private readonly IReadOnlyList<TrainedParameter> _parameters;
    private readonly IOptimizer _optimizer;
    private readonly Tensor[] _averages;
    private readonly Scalar _decay;
    private readonly Scalar _rest;

    /// <summary>Creates the average of the current weights.</summary>
    /// <param name="parameters">The trained parameters.</param>
    /// <param name="optimizer">The optimizer that updates them.</param>
    /// <param name="decay">Weight of the average so far.</param>
    public WeightAverage(IReadOnlyList<TrainedParameter> parameters, IOptimizer optimizer, double decay)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        (_parameters, _optimizer, _decay, _rest) = (parameters, optimizer, decay, 1 - decay);
        _averages = [.. parameters.Select(static p => p.Parameter.detach().to(float32, copy: true).DetachFromDisposeScope())];
    }

    /// <summary>The averages by the parameters' names, for checkpoints; this object keeps ownership.</summary>
    public IReadOnlyList<(string Name, Tensor State)> State => [.. _parameters.Zip(_averages, static (p, average) => (p.Name, average))];

    /// <summary>Takes the weights of a step into the average.</summary>
    public void Add()
    {
        using var nothing = no_grad();
        for (var i = 0; i < _averages.Length; i++)
        {
            using var scope = NewDisposeScope();
            _ = _averages[i].mul_(_decay).add_(_optimizer.ExactWeight(i).to(_averages[i].device), _rest);
        }
    }

    /// <inheritdoc/>
    public Tensor Averaged(int index) => _averages[index].alias();

    /// <summary>Restores a saved average.</summary>
    /// <param name="read">Reads the tensor of a given name, into the caller's dispose scope.</param>
    public void Restore(Func<string, Tensor> read)
    {
        ArgumentNullException.ThrowIfNull(read);
        using var nothing = no_grad();
        foreach (var (name, average) in State)
        {
            using var scope = NewDisposeScope();
            _ = average.copy_(read(name));
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Array.ForEach(_averages, static a => a.Dispose());
        _decay.Dispose();
        _rest.Dispose();
    }
}
