namespace OpenWeights.LibTorch.Native;

/// <summary>A node of the autograd graph whose backward is written in C#.</summary>
internal interface IManagedNode
{
    /// <summary>Takes over the handles of the gradients and gives owned handles (or zero) of the gradients of its tensor inputs.</summary>
    void Backward(ReadOnlySpan<nint> gradients, Span<nint> results);
}
