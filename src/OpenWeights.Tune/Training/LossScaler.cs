namespace OpenWeights.Tune.Training;

/// <summary>
/// Dynamic loss scaling (Micikevicius et al., 2018): in float16 small gradients would be zero, so the loss is multiplied before backward and
/// the gradients divided before the step. A step whose gradients overflow is left out and the scale halved; after a long time without, it is doubled.
/// </summary>
public sealed class LossScaler
{
    private const double First = 65_536;
    private const double Least = 1;
    private const double Most = 1L << 24;
    private const int StepsUntilGrowth = 2_000;

    /// <summary>What the loss is multiplied by.</summary>
    public double Scale { get; set; } = First;

    /// <summary>Steps since the scale last changed.</summary>
    public int GoodSteps { get; set; }

    /// <summary>Steps that were left out.</summary>
    public long Skipped { get; set; }

    /// <summary>Whether the scale can still be lowered.</summary>
    public bool CanFall => Scale > Least;

    /// <summary>A step was taken.</summary>
    public void Succeeded()
    {
        if (++GoodSteps >= StepsUntilGrowth)
        {
            (Scale, GoodSteps) = (Math.Min(Most, 2 * Scale), 0);
        }
    }

    /// <summary>The gradients of a step overflowed; it is left out.</summary>
    public void Overflowed() => (Scale, GoodSteps, Skipped) = (Math.Max(Least, Scale / 2), 0, Skipped + 1);
}
