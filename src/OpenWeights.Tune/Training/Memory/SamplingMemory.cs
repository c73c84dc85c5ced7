using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Objectives.Distillation;
using OpenWeights.Tune.Objectives.Reinforcement;

namespace OpenWeights.Tune.Training.Memory;

/// <summary>What sampling answers while training holds beside the model, in bytes. There are no activations and gradients of a step meanwhile.</summary>
/// <param name="States">Keys and values, and other states, of each layer.</param>
/// <param name="Scores">Logits of the next token of each text.</param>
/// <param name="Reading">What is held while the prompts are read: their states alone, and what a layer computes.</param>
internal sealed record SamplingMemory(IReadOnlyList<long> States, long Scores, long Reading)
{
    /// <summary>The peak.</summary>
    internal long Total => Math.Max(States.Sum() + Scores, Reading);

    /// <summary>The memory of a run's sampling; null if it samples nothing.</summary>
    /// <param name="model">The model, with its adapter; shapes are enough.</param>
    /// <param name="config">The run.</param>
    /// <param name="longestPrompt">Number of tokens of the longest prompt.</param>
    internal static SamplingMemory? Of(CausalLanguageModel model, RunConfig config, int longestPrompt)
    {
        var (prompts, rows) = Texts(config);
        if (rows == 0)
        {
            return null;
        }

        var (own, size) = (model.Stack.Virtual?.Count ?? 0, model.Stack.Embedding.Weight.element_size());
        var most = Math.Min(longestPrompt + config.Objective.MaxCompletionLength, ContextLimit.Of(model.Config, config.Model.MaxPositions).Tokens);
        var texts = new CachedTexts(rows, longestPrompt + own, most + own);
        return new SamplingMemory(
            StatesOf(model, texts, size),

            // In float32 as they were computed and as they are drawn from, and in the model's dtype.
            rows * model.Config.VocabularySize * (sizeof(float) + sizeof(float) + (size == sizeof(float) ? 0 : size)),
            StatesAfter(model, texts with { Rows = prompts, Tokens = texts.Prompt }, size).Sum() + Enumerable.Range(0, model.LayerCount).Max(i => new LayerMemory(model, i, prompts * texts.Prompt, prompts).Bytes));
    }

    // Those of layers with a window can be largest when the prompts have been read, and those of others at the end.
    private static IReadOnlyList<long> StatesOf(CausalLanguageModel model, CachedTexts texts, long size)
    {
        var (first, last) = (StatesAfter(model, texts with { Tokens = texts.Prompt }, size), StatesAfter(model, texts, size));
        return first.Sum() > last.Sum() ? first : last;
    }

    private static IReadOnlyList<long> StatesAfter(CausalLanguageModel model, CachedTexts texts, long size) => [.. model.Stack.Layers.Select(l => l.Mixer?.Part.StateBytes(texts, size) ?? 0)];

    // Numbers of different prompts and of texts that are generated at once.
    private static (int Prompts, int Texts) Texts(RunConfig config)
    {
        var (objective, training, kind) = (config.Objective, config.Training, ObjectiveKinds.Of(config.Objective));
        if (kind.RowsOf(objective) == RowKind.Prompts)
        {
            var (generations, micro) = (objective.Generations, training.MicroBatchSize ?? objective.Generations);
            var together = Math.Max(training.GradientAccumulationSteps, objective.MicroBatchesTogether(training)) * (long)micro;
            var atOnce = SampledAnswers.TextsAtOnce(micro);

            // An evaluation may have many prompts, and less answers to each.
            var (evaluates, each) = (config.Data.Eval.Count > 0, objective.NumGenerationsEval ?? generations);
            var texts = evaluates ? atOnce : (int)Math.Min(together, atOnce);
            return ((texts + (evaluates ? Math.Min(each, generations) : generations) - 1) / (evaluates ? Math.Min(each, generations) : generations), texts);
        }

        if (objective is not { Type: "distill", Lmbda: > 0 })
        {
            return (0, 0);
        }

        var rows = (int)Math.Min((long)training.RowsAtOnce * training.GradientAccumulationSteps, StudentSamples.TextsAtOnce);
        return (rows, rows);
    }
}
