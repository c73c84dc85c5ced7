using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>The optimizer of what one rank updates, which knows whole weights where all ranks ask for them.</summary>
/// <param name="optimizer">The optimizer of this rank's part; this object takes ownership.</param>
/// <param name="parameters">The parameters, whole.</param>
/// <param name="ranks">The ranks.</param>
internal abstract class RankOptimizer(IOptimizer optimizer, IReadOnlyList<TrainedParameter> parameters, RankGroup ranks) : IOptimizer
{
    /// <inheritdoc/>
    public long StepCount
    {
        get => optimizer.StepCount;
        set => optimizer.StepCount = value;
    }

    /// <summary>The state of this rank's part.</summary>
    public IReadOnlyList<(string Name, Tensor State)> State => optimizer.State;

    /// <inheritdoc/>
    public Tensor ExactWeight(int index)
    {
        using var nothing = no_grad();
        var parameter = parameters[index].Parameter;
        return parameter.dtype == float32 ? parameter.detach() : Whole(index, optimizer.ExactWeight);
    }

    /// <inheritdoc/>
    public double NextRate(double scheduled) => optimizer.NextRate(scheduled);

    /// <inheritdoc/>
    public virtual void Restore(Func<string, bool> has, Func<string, Tensor> read) => optimizer.Restore(has, read);

    /// <inheritdoc/>
    public void Step(double learningRate, double gradientScale = 1) => optimizer.Step(learningRate, gradientScale);

    /// <inheritdoc/>
    public void Dispose()
    {
        optimizer.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Float32 values of a whole parameter, in the current dispose scope.</summary>
    /// <param name="index">Index of the parameter.</param>
    /// <param name="values">The values of what this rank updates, by its index in the rank's optimizer.</param>
    private protected Tensor Whole(int index, Func<int, Tensor> values)
    {
        var counts = new long[ranks.Size];
        var place = Divide(index, counts);
        var parameter = parameters[index].Parameter;
        return new StateOfRanks(ranks, parameters).Join(place < 0 ? null : values(place), counts, float32, parameter.device).view(parameter.shape);
    }

    /// <summary>How many elements of a parameter each rank updates.</summary>
    /// <param name="index">Index of the parameter.</param>
    /// <param name="counts">The number of each rank, 0 before the call.</param>
    /// <returns>The index of this rank's part in its optimizer; -1 where it has none.</returns>
    private protected abstract int Divide(int index, long[] counts);
}
