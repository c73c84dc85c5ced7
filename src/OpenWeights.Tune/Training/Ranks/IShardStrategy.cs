using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>
/// What becomes of gradients, optimizer state and weights around the steps of a run: one process keeps all, several ranks sum gradients and may share out the rest.
/// The trainer calls the members in this order, on all ranks: for each micro-batch of this rank <see cref="Accumulating"/>, once
/// <see cref="Accumulated"/>, <see cref="Measure"/>, <see cref="ClipValues"/> and <see cref="Step"/> if the step is taken, and
/// <see cref="Drop"/>.
/// </summary>
internal interface IShardStrategy : IDisposable
{
    /// <summary>The optimizer of what this rank updates.</summary>
    IOptimizer Optimizer { get; }

    /// <summary>Seconds since the last call in which this rank did nothing but communicate.</summary>
    double TakeExposedSeconds() => 0;

    /// <summary>Whether all ranks must compute as many passes of the model as each other: one without a micro-batch of its own computes another's, and counts it nothing.</summary>
    bool NeedsEqualRounds => false;

    /// <summary>Does work of the first rank alone that reads weights; the others call <see cref="Follow"/>.</summary>
    /// <param name="work">The work.</param>
    void Lead(Action work) => work();

    /// <summary>Takes part in what the first rank does in <see cref="Lead"/>.</summary>
    void Follow()
    {
    }

    /// <summary>Called before the forward pass of each micro-batch of this rank; a rank may have none.</summary>
    /// <param name="isLast">Whether nothing is added to the gradients of this rank after its backward pass.</param>
    void Accumulating(bool isLast)
    {
    }

    /// <summary>Called when this rank's gradients are complete: afterwards those that it updates are sums over all ranks.</summary>
    void Accumulated()
    {
    }

    /// <summary>The sum of loss sums over all ranks, and the global norm of the gradients as they are, with the loss scale; NaN where the loss is not finite.</summary>
    /// <param name="losses">Loss sums of this rank's micro-batches.</param>
    (double Loss, double Norm) Measure(IReadOnlyList<Tensor> losses);

    /// <summary>Limits the magnitude of each element of the gradients.</summary>
    /// <param name="largest">The largest magnitude.</param>
    /// <param name="measures">Whether their norm is wanted.</param>
    /// <returns>The norm afterwards, if it is wanted.</returns>
    double ClipValues(double largest, bool measures);

    /// <summary>Takes a step of the optimizer; afterwards every rank has the weights that it computes with.</summary>
    /// <param name="rate">The learning rate.</param>
    /// <param name="factor">Factor applied to the gradients first.</param>
    void Step(double rate, double factor);

    /// <summary>Frees all gradients.</summary>
    void Drop();

    /// <summary>
    /// The whole optimizer's state for a file, as one process writes it, whatever the ranks. All ranks ask for it, and for the bytes of its tensors in the
    /// order of the file: the first writes them, the others call <see cref="FollowState"/>.
    /// </summary>
    IReadOnlyList<TensorToWrite> State();

    /// <summary>Takes part in what the first rank writes.</summary>
    void FollowState()
    {
    }

    /// <summary>The trained parameters, or this rank's pieces of them, of which averages are kept and put into the model.</summary>
    IReadOnlyList<TrainedParameter> Averaged { get; }

    /// <summary>The optimizer of what is averaged, which has its indexes.</summary>
    IOptimizer AveragedBy => Optimizer;

    /// <summary>Called by all ranks when values of what is averaged were changed: afterwards the model computes with them.</summary>
    void Changed()
    {
    }

    /// <summary>A moving average for a file, as one process writes it; the others call <see cref="FollowAverage"/>.</summary>
    /// <param name="average">The average.</param>
    IReadOnlyList<TensorToWrite> AverageToWrite(WeightAverage average) => [.. average.State.Select(static s => Torch.TensorFiles.ToWrite(s.Name, s.State))];

    /// <summary>Takes part in what the first rank writes of a moving average.</summary>
    /// <param name="average">The average.</param>
    void FollowAverage(WeightAverage average)
    {
    }

    /// <summary>Restores a moving average from a file.</summary>
    /// <param name="average">The average.</param>
    /// <param name="read">Reads the tensor of a given name, into the caller's dispose scope.</param>
    void RestoreAverage(WeightAverage average, Func<string, Tensor> read) => average.Restore(read);
}
