namespace OpenWeights.Tune.Optimizers;

/// <summary>A state tensor that an optimizer keeps for a parameter, float32.</summary>
/// <param name="Name">Its name in checkpoints, after the parameter's.</param>
/// <param name="Shape">Its shape.</param>
internal readonly record struct StateShape(string Name, long[] Shape)
{
    /// <summary>Whether its values are never negative, so that an 8-bit code needs no sign.</summary>
    public bool IsSquare { get; init; }

    /// <summary>Whether it starts as a copy of the parameter instead of zeros.</summary>
    public bool StartsAsWeight { get; init; }

    /// <summary>Whether it is an average of gradients, with one value per element of the parameter, which 8-bit state stores as codes.</summary>
    public bool IsMoment { get; init; }

    /// <summary>An average of gradients, of the parameter's shape.</summary>
    /// <param name="name">The name.</param>
    /// <param name="trained">The parameter.</param>
    public static StateShape Moment(string name, TrainedParameter trained)
    {
        ArgumentNullException.ThrowIfNull(trained);
        return new StateShape(name, trained.Parameter.shape) { IsMoment = true };
    }

    /// <summary>An average of squared gradients, of the parameter's shape.</summary>
    /// <param name="name">The name.</param>
    /// <param name="trained">The parameter.</param>
    public static StateShape Square(string name, TrainedParameter trained) => Moment(name, trained) with { IsSquare = true };
}
