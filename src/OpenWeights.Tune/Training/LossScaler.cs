namespace OpenWeights.Tune.Training;

/// <summary>
/// Dynamic loss scaling (Micikevicius et al., 2018): small gradients underflow in float16, so the loss is multiplied by a scale before
/// backward and the gradients divided by it before the step. If gradients overflow, the step is skipped and the scale halved; after many
/// steps without overflow it is doubled.
/// </summary>
internal sealed class LossScaler
{
    private const double First = 65_536;
    private const double Least = 1;
    private const double Most = 1L << 24;
    private const int StepsUntilGrowth = 2_000;

    /// <summary>The loss scale.</summary>
    public double Scale { get; set; } = First;

    /// <summary>Number of steps since the scale last changed.</summary>
    public int GoodSteps { get; set; }

    /// <summary>Number of skipped steps.</summary>
    public long Skipped { get; set; }

    /// <summary>Whether the scale can be lowered further.</summary>
    public bool CanFall => Scale > Least;

    /// <summary>Records a completed step.</summary>
    public void Succeeded()
    {
        if (++GoodSteps >= StepsUntilGrowth)
        {
            (Scale, GoodSteps) = (Math.Min(Most, 2 * Scale), 0);
        }
    }

    /// <summary>Records a step skipped because its gradients overflowed.</summary>
    public void Overflowed() => (Scale, GoodSteps, Skipped) = (Math.Max(Least, Scale / 2), 0, Skipped + 1);
}
