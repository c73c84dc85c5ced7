using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>The inputs of <see cref="StateSpaceKernel"/>.</summary>
/// <param name="Inputs">x of all heads, B and C of all groups, [batch, tokens, heads x width + 2 x groups x size], float32 or bfloat16.</param>
/// <param name="Step">Time steps, [batch, tokens, heads], float32.</param>
/// <param name="Rates">What a time step is multiplied by to give the logarithm of the decay, [heads], float32.</param>
/// <param name="Skip">Factor of x that is added to the output, [heads], float32.</param>
/// <param name="Continues">Not 0 where a token is of the same document as the one before it, [batch, tokens], float32; null for all.</param>
/// <param name="State">The states before the first token, [batch, heads, size, width], float32; null for zeros.</param>
/// <param name="Sizes">Heads and their widths.</param>
internal sealed record StateSpaceProblem(Tensor Inputs, Tensor Step, Tensor Rates, Tensor Skip, Tensor? Continues, Tensor? State, StateSpaceSizes Sizes)
{
    internal long Batch => Step.size(0);

    internal long Tokens => Step.size(1);

    internal long Chunks => (Tokens + StateSpaceKernel.Chunk - 1) / StateSpaceKernel.Chunk;

    /// <summary>Whether the kernel supports the inputs.</summary>
    internal bool IsServed => CpuKernel.Serves(Inputs) && CpuKernel.Serves(Step) && Step.dtype == ScalarType.Float32 && (State is null || CpuKernel.Serves(State));

    /// <summary>x in a tensor of the shape of the inputs, by head: [batch, heads, tokens, width].</summary>
    internal Tensor OfHeads(Tensor inputs) => inputs.narrow(2, 0, Sizes.Inner).view(Batch, Tokens, Sizes.Heads, Sizes.Width).transpose(1, 2);

    /// <summary>B in such a tensor, by group: [batch, groups, tokens, size].</summary>
    internal Tensor Keys(Tensor inputs) => OfGroups(inputs, Sizes.Inner);

    /// <summary>C in such a tensor.</summary>
    internal Tensor Queries(Tensor inputs) => OfGroups(inputs, Sizes.Inner + (Sizes.Groups * Sizes.Size));

    private Tensor OfGroups(Tensor inputs, long start) =>
        inputs.narrow(2, start, Sizes.Groups * Sizes.Size).view(Batch, Tokens, Sizes.Groups, Sizes.Size).transpose(1, 2);
}

/// <summary>Heads and widths of a state space layer.</summary>
/// <param name="Heads">Number of heads.</param>
/// <param name="Groups">Number of groups of heads that share B and C.</param>
/// <param name="Width">Width of a head.</param>
/// <param name="Size">Size of the state of each channel.</param>
internal sealed record StateSpaceSizes(long Heads, long Groups, long Width, long Size)
{
    internal long Inner => Heads * Width;
}

/// <summary>Gradients of a <see cref="StateSpaceProblem"/>, each of the shape and dtype of its tensor.</summary>
internal sealed record StateSpaceGradients(Tensor Inputs, Tensor Step, Tensor Rates, Tensor Skip, Tensor State);
