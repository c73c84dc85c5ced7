using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives.Stored;

namespace OpenWeights.Tune.Objectives;

/// <summary>The model that a policy is compared with: the same base with the adapter off, the weights at the start, another folder, or a teacher.</summary>
internal interface IReferencePolicy : IDisposable
{
    /// <summary>Log-probabilities of the run's rows that were computed before; null for none.</summary>
    internal LogProbStore? Stored => null;

    /// <summary>Runs a computation with the reference's weights. Gradients must be off.</summary>
    /// <typeparam name="T">Result of the computation.</typeparam>
    /// <param name="compute">Receives the reference model.</param>
    T Run<T>(Func<CausalLanguageModel, T> compute);
}
