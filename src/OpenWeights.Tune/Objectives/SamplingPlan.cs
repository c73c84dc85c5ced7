using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Objectives;

/// <summary>How sampled answers are shared out among steps.</summary>
/// <param name="MicroBatch">Answers per micro-batch.</param>
/// <param name="Accumulation">Micro-batches per optimizer step, of all ranks together.</param>
/// <param name="Parts">Optimizer steps that share out the answers sampled together.</param>
/// <param name="Iterations">How many times these answers are trained on.</param>
/// <param name="Generations">Answers per prompt.</param>
internal sealed record SamplingPlan(int MicroBatch, int Accumulation, int Parts, int Iterations, int Generations)
{
    /// <summary>Answers per optimizer step.</summary>
    public int RowsPerStep => MicroBatch * Accumulation;

    /// <summary>Answers sampled together.</summary>
    public int RowsTogether => RowsPerStep * Parts;

    /// <summary>Prompts whose answers are sampled together.</summary>
    public int GroupsTogether => RowsTogether / Generations;

    /// <summary>Optimizer steps between samplings.</summary>
    public int StepsTogether => Parts * Iterations;

    /// <summary>The plan of a run.</summary>
    /// <param name="config">The run; without training.micro_batch_size, a micro-batch has the answers to one prompt.</param>
    /// <param name="generations">Answers per prompt of recorded samples; null for those of the config.</param>
    /// <param name="ranks">Number of ranks, each with as many micro-batches.</param>
    /// <exception cref="InvalidDataException">The answers sampled together are not whole groups.</exception>
    public static SamplingPlan Of(RunConfig config, int? generations = null, int ranks = 1)
    {
        ArgumentNullException.ThrowIfNull(config);
        var (training, objective) = (config.Training, config.Objective);
        var answers = generations ?? objective.Generations;
        var accumulation = training.GradientAccumulationSteps;
        var plan = new SamplingPlan(training.MicroBatchSize ?? answers, checked(accumulation * ranks), Math.Max(1, objective.MicroBatchesTogether(training) / accumulation), objective.NumIterations, answers);
        return plan.RowsTogether % answers == 0 ? plan : throw new InvalidDataException(
            $"{plan.RowsTogether} answers are trained on together (training.micro_batch_size x gradient_accumulation_steps, or objective.steps_per_generation{(ranks > 1 ? $", of {ranks} ranks" : "")}), and each prompt has {answers}; the first must be a multiple of the second.");
    }
}
