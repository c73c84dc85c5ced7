namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>Chooses where answers come from.</summary>
internal static class AnswerSources
{
    /// <summary>Recorded answers where objective.samples names them, otherwise the policy's own.</summary>
    internal static IAnswerSource Of(ObjectiveContext context) => context.Settings.Samples is not null ? new RecordedAnswers(context) : new SampledAnswers(context);
}
