using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>A state tensor as it is stored: float32 values, or 8-bit codes with a scale per block.</summary>
internal sealed class StoredState : IDisposable
{
    private readonly StateShape _shape;
    private readonly Device _home;

    /// <summary>Creates a state.</summary>
    /// <param name="shape">Its name and shape.</param>
    /// <param name="weight">The parameter's float32 values, for a state that starts as them.</param>
    /// <param name="device">Where it is stored.</param>
    /// <param name="home">Where it is used.</param>
    /// <param name="isCoded">Whether it is stored as 8-bit codes.</param>
    internal StoredState(StateShape shape, Func<Tensor> weight, Device device, Device home, bool isCoded)
    {
        using var scope = NewDisposeScope();
        (_shape, _home) = (shape, home);
        IsPaged = device.type != home.type;
        var count = shape.Shape.Aggregate(1L, static (product, size) => product * size);
        Tensor Kept(Tensor tensor) => (IsPaged ? tensor.pin_memory() : tensor).DetachFromDisposeScope();

        // Codes whose scale is zero stand for zeros.
        Values = Kept(isCoded ? zeros([count], ScalarType.Byte, device)
            : shape.StartsAsWeight ? weight().to(float32, device, copy: true)
            : zeros(shape.Shape, float32, device));
        Scales = isCoded ? Kept(zeros([StateCodes.Blocks(count)], float32, device)) : null;
    }

    /// <summary>The values, or their codes, [elements].</summary>
    internal Tensor Values { get; }

    /// <summary>Scale of each block of codes, [blocks]; null if the values are stored.</summary>
    internal Tensor? Scales { get; }

    /// <summary>Whether it is stored on another device than it is used.</summary>
    internal bool IsPaged { get; }

    /// <summary>Whether the codes have a sign.</summary>
    internal bool IsSigned => !_shape.IsSquare;

    /// <summary>The stored tensors by name.</summary>
    internal IEnumerable<(string Name, Tensor Tensor)> Named => Scales is null ? [(_shape.Name, Values)] : [(_shape.Name, Values), ($"{_shape.Name}.absmax", Scales)];

    /// <summary>The float32 values where they are used: the stored ones, or new ones in the current dispose scope.</summary>
    internal Tensor Open()
    {
        var values = IsPaged ? Values.to(_home, non_blocking: true) : Values;
        return Scales is null ? values : StateCodes.Decode(values, IsPaged ? Scales.to(_home, non_blocking: true) : Scales, IsSigned).view(_shape.Shape);
    }

    /// <summary>Stores values that <see cref="Open"/> returned and a step changed.</summary>
    internal void Close(Tensor values)
    {
        if (Scales is null)
        {
            if (IsPaged)
            {
                _ = Values.copy_(values, nonBlocking: true);
            }

            return;
        }

        if (!IsPaged)
        {
            StateCodes.Encode(values, Values, Scales, IsSigned);
            return;
        }

        using var scope = NewDisposeScope();
        var (codes, scales) = (empty([values.numel()], ScalarType.Byte, _home), empty(Scales.shape, float32, _home));
        StateCodes.Encode(values, codes, scales, IsSigned);
        _ = Values.copy_(codes, nonBlocking: true);
        _ = Scales.copy_(scales, nonBlocking: true);
    }

    public void Dispose()
    {
        Values.Dispose();
        Scales?.Dispose();
    }
}
