using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Objectives.Reinforcement;

/// <summary>Gives the judged answers that a policy is trained on.</summary>
internal interface IAnswerSource
{
    /// <summary>The answers of some rows, those of a prompt one after the other. Called with gradients off.</summary>
    /// <param name="model">The policy.</param>
    /// <param name="rows">Prompts, or recorded answers.</param>
    /// <param name="batch">Number of the batch; negative in an evaluation.</param>
    IReadOnlyList<TokenRow> Answers(CausalLanguageModel model, IReadOnlyList<TokenRow> rows, long batch);

    /// <summary>Answers per prompt.</summary>
    /// <param name="isTraining">Whether they are trained on, instead of evaluated.</param>
    int GroupSize(bool isTraining);

    /// <summary>Whether the answers are new, and belong in samples.jsonl.</summary>
    bool Records { get; }

    /// <summary>What went wrong since the last call without stopping the run.</summary>
    IReadOnlyList<string> TakeWarnings() => [];

    /// <summary>What was measured since the last call, such as the time of sampling.</summary>
    IReadOnlyDictionary<string, double> TakeMetrics() => new Dictionary<string, double>();
}
