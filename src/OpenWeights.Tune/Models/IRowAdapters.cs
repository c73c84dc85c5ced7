namespace OpenWeights.Tune.Models;

/// <summary>The adapters that the rows of a batch can have, each its own, by name (<see cref="ModelInput.Adapters"/>).</summary>
internal interface IRowAdapters
{
    /// <summary>The tokens that switch an adapter on; null if it applies to all tokens.</summary>
    /// <param name="name">Name of the adapter.</param>
    /// <exception cref="KeyNotFoundException">There is no adapter of that name.</exception>
    /// <exception cref="InvalidDataException">It cannot be used for single rows.</exception>
    InvocationTokens? InvocationOf(string name);
}
