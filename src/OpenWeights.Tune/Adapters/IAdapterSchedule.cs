using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>What a kind of adapter does while it is trained besides following its gradients.</summary>
internal interface IAdapterSchedule : IDisposable
{
    /// <summary>A loss of the parameters themselves, in the current dispose scope; null for none.</summary>
    Tensor? Penalty();

    /// <summary>Called after each step of the optimizer, while the gradients are there.</summary>
    /// <param name="step">The step, counted from 0.</param>
    /// <param name="steps">Number of steps of the run.</param>
    void Stepped(long step, long steps);

    /// <summary>What must be kept besides the adapter's file to go on with a run: names and tensors.</summary>
    IEnumerable<(string Name, Tensor Tensor)> State();

    /// <summary>Restores what <see cref="State"/> gave.</summary>
    /// <param name="read">Reads a tensor into the current dispose scope; null if there is none.</param>
    void Restore(Func<string, Tensor?> read);
}
