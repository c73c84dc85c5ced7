using System.Runtime.InteropServices;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>One process: gradients are where backward passes leave them, and nothing is communicated.</summary>
/// <param name="model">The model.</param>
/// <param name="parameters">The trained parameters.</param>
/// <param name="optimizer">The optimizer; this object takes ownership.</param>
internal sealed class WholeModel(CausalLanguageModel model, IReadOnlyList<TrainedParameter> parameters, IOptimizer optimizer) : IShardStrategy
{
    /// <inheritdoc/>
    public IOptimizer Optimizer => optimizer;

    /// <inheritdoc/>
    public IReadOnlyList<TrainedParameter> Averaged => parameters;

    /// <inheritdoc/>
    public (double Loss, double Norm) Measure(IReadOnlyList<Tensor> losses)
    {
        if (model.Device.type == DeviceType.CPU)
        {
            var loss = losses.Sum(static l => l.ToDouble());
            return (loss, double.IsFinite(loss) ? Gradients.Norm(parameters) : double.NaN);
        }

        // This is the only synchronization with a GPU.
        using var scope = NewDisposeScope();
        var norm = Gradients.NormTensor(parameters);
        var numbers = stack([.. losses, .. norm is null ? [] : new[] { norm.to(model.Device) }]).to(float64).cpu();
        double[] values = [.. MemoryMarshal.Cast<byte, double>(numbers.bytes)];
        var total = values[..losses.Count].Sum();
        return (total, norm is null ? 0 : double.IsFinite(total) ? values[^1] : double.NaN);
    }

    /// <inheritdoc/>
    public double ClipValues(double largest, bool measures)
    {
        Gradients.ClipValues(parameters, largest);
        return measures ? Gradients.Norm(parameters) : 0;
    }

    /// <inheritdoc/>
    public void Step(double rate, double factor) => optimizer.Step(rate, factor);

    /// <inheritdoc/>
    public void Drop() => Gradients.Drop(parameters);

    /// <inheritdoc/>
    public IReadOnlyList<TensorToWrite> State() => [.. optimizer.State.Select(static s => TensorFiles.ToWrite(s.Name, s.State))];

    /// <inheritdoc/>
    public void Dispose() => optimizer.Dispose();
}
