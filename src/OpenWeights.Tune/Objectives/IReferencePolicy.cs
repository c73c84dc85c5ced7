using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Objectives;

/// <summary>The model that a policy is compared with: the same base with the adapter off, the weights at the start, or another folder.</summary>
public interface IReferencePolicy : IDisposable
{
    /// <summary>Runs a computation with the reference's weights. Gradients must be off.</summary>
    /// <typeparam name="T">Result of the computation.</typeparam>
    /// <param name="compute">Receives the reference model.</param>
    T Run<T>(Func<CausalLanguageModel, T> compute);
}
