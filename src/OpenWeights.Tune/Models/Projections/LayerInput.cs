using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Projections;

/// <summary>What linear layers read, made of tensors that are there anyway; backward makes it again instead of keeping it.</summary>
internal abstract class LayerInput
{
    /// <summary>The tensors that it is made of.</summary>
    internal abstract IReadOnlyList<Tensor> Sources { get; }

    /// <summary>The input, without a graph, and what else is kept to make it again. In the caller's dispose scope.</summary>
    internal abstract (Tensor Input, IReadOnlyList<Tensor> Kept) Make();

    /// <summary>The input again, in the caller's dispose scope.</summary>
    /// <param name="sources">The sources, as they were kept.</param>
    /// <param name="kept">What <see cref="Make"/> gave to be kept.</param>
    internal abstract Tensor Again(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept);

    /// <summary>The gradient of each source, in the caller's dispose scope; null where none is wanted.</summary>
    /// <param name="sources">The sources, as they were kept.</param>
    /// <param name="kept">What <see cref="Make"/> gave to be kept.</param>
    /// <param name="gradient">The input's gradient, in one piece; it is given away, and may be written over.</param>
    internal abstract IReadOnlyList<Tensor?> Backward(IReadOnlyList<Tensor> sources, IReadOnlyList<Tensor> kept, Tensor gradient);

    /// <summary>Whether backward needs the sources although no layer asks for its input again.</summary>
    internal abstract bool NeedsSources { get; }
}
