namespace OpenWeights.Tune.Configuration;

/// <summary>Checks of the optimizer's and schedule's settings together.</summary>
internal static class OptimizerRules
{
    /// <summary>The problems, each with the name of its setting.</summary>
    internal static IEnumerable<(string Key, string Message)> Of(TrainingSection training)
    {
        if (training.HasOwnRate && training.LrScheduler is not (null or "constant"))
        {
            var what = training.Optimizer == "adafactor" ? "adafactor with relative_step" : training.Optimizer;
            yield return ("training.lr_scheduler", $"{what} derives the learning rate from the step, without a schedule; remove lr_scheduler, or write constant.");
        }

        if (training is { Ema: not null, Optimizer: "schedule_free_adamw" })
        {
            yield return ("training.ema", "schedule_free_adamw averages the weights itself; remove ema.");
        }

        if (training.Muon.NsCoefficients.Count != 3)
        {
            yield return ("training.muon.ns_coefficients", "three numbers are expected, such as [3.4445, -4.775, 2.0315].");
        }

        if (training.Adafactor.Eps is { Count: not 2 })
        {
            yield return ("training.adafactor.eps", "two numbers are expected, such as [1e-30, 0.001].");
        }

        if (training is { Optimizer: "adafactor_torch", Adafactor: var own } && (own.RelativeStep || own.WarmupInit || own.Beta1 is not null))
        {
            yield return ("training.adafactor", "relative_step, warmup_init and beta1 are settings of adafactor; adafactor_torch has none of them.");
        }

        if (training.Adafactor is { WarmupInit: true, RelativeStep: false })
        {
            yield return ("training.adafactor.warmup_init", "warmup_init requires relative_step: true.");
        }

        if (training.Optimizer == "schedule_free_adamw" && training.Betas is [0, ..])
        {
            yield return ("training.betas", "the first number must not be 0 for schedule_free_adamw, which derives the averaged weights from it.");
        }

        foreach (var (pattern, _) in training.Rates)
        {
            if (NamePattern.Problem(pattern) is { } problem)
            {
                yield return ($"training.rates.{pattern}", problem);
            }
        }

        foreach (var name in training.OptimTargetModules?.Values ?? [])
        {
            if (NamePattern.Problem(name) is { } problem)
            {
                yield return ("training.optim_target_modules", problem);
            }
        }
    }
}
