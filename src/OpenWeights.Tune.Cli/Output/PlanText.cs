using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Formats the plan of a run.</summary>
internal static class PlanText
{
    internal static IEnumerable<string> Lines(RunPlan plan)
    {
        var config = plan.Config;
        yield return $"model     {ShownPath.Of(config.Model.Path)} ({plan.ModelType}, {Amount.Count(plan.BaseParameters)} parameters, {plan.DType}{(config.Quantization is { } quantization ? $", linear layers held in {quantization.Type}" : "")}{(plan.BaseQuantization is { } packed ? $", quantized {(config.Model.Quantized == "keep" ? "and held so" : "and dequantized")}: {packed}" : "")}, {plan.Device})";
        yield return config.Adapter is { } adapter
            ? $"training  {Amount.Count(plan.TrainedParameters)} parameters of an adapter ({(adapter.Path is not null ? $"going on from {ShownPath.Of(adapter.Path)}" : adapter.Own is not null ? adapter.Type : $"r {adapter.Rank}, alpha {Amount.Number(adapter.LoraAlpha, "0.##")}")})"
            : $"training  {(plan.TrainedParameters == plan.BaseParameters ? "all " : "")}{Amount.Count(plan.TrainedParameters)} parameters";
        if (config.Objective.Type != "sft")
        {
            yield return $"objective {Objective(config.Objective)}";
        }

        foreach (var line in DataText.Lines("data", plan.Train, config.Data.MaxLength))
        {
            yield return line;
        }

        foreach (var line in plan.Eval is null ? [] : DataText.Lines("eval", plan.Eval, config.Data.MaxLength))
        {
            yield return line;
        }

        if (!config.Data.Packs)
        {
            yield return $"          {Amount.Percent(plan.Padding)} of the batches is padding";
        }

        yield return $"steps     {Amount.Count(plan.TotalSteps)}{(plan.StepsDone > 0 ? $", of which {plan.StepsDone} are done" : "")} ({Amount.Count(plan.StepsPerEpoch)} an epoch, {config.Training.RowsAtOnce} x {config.Training.GradientAccumulationSteps}{(plan.Ranks > 1 ? $" x {plan.Ranks} ranks" : "")} rows each)";
        if (plan.Start is { } start)
        {
            yield return $"start     {start.Text}";
        }

        if (plan.TeacherAnswers is { } answers)
        {
            yield return $"teacher   answers to {Amount.Count(answers.Rows)} prompts in {ShownPath.Of(answers.Path)}{(answers.IsThere ? ", which are there already" : $", sampled once before training{(config.Objective.TeacherTopK is not null && config.Objective.Lmbda == 0 ? ", and then the log-probabilities of their tokens" : "")}")}";
        }

        if (plan.LogProbs is { } known)
        {
            yield return $"{(known.OfTeacher ? "teacher   " : "reference ")}log-probabilities of {Amount.Count(known.Targets)} tokens, {Amount.Bytes(known.Bytes)} in {ShownPath.Of(known.Path)}{(known.IsThere ? ", which are there already" : ", computed once before training")}";
        }

        var memory = plan.Memory;
        yield return $"memory    about {Amount.Bytes(memory.Total)}: weights {Amount.Bytes(memory.Weights + memory.Adapter)}{(memory.Compared > 0 ? $", {(config.Objective.Type == "distill" ? "teacher" : "reference")} {Amount.Bytes(memory.Compared)}" : "")}, gradients {Amount.Bytes(memory.Gradients)}, optimizer {Amount.Bytes(memory.Optimizer)}, activations about {Amount.Bytes(memory.Activations)}{(memory.Sampling > 0 ? $" (or sampling {Amount.Bytes(memory.Sampling)})" : "")}, the program {Amount.Bytes(memory.Program)}";
        if (plan.Room is { } room)
        {
            yield return $"          {Amount.Bytes(room.Bytes)} of {room.Where} are free{(plan.MemoryNeeded == memory.Total ? "" : $", of which the run needs {Amount.Bytes(plan.MemoryNeeded)}")}";
        }

        yield return $"folder    {ShownPath.Of(config.OutputDir)}";
        if (RunDefaults.Advice(plan) is { } advice)
        {
            yield return $"warning: {advice}";
        }

        if (config.Training.WarmupRatio is null && config.Training.WarmupSteps >= plan.TotalSteps && config.Training.WarmupSteps > 0)
        {
            yield return $"warning: training.warmup_steps ({config.Training.WarmupSteps}) extends to the end of the run; the learning rate never reaches {Amount.Number(config.Training.LearningRate, "0.##e0")}.";
        }
    }

    private static string Objective(ObjectiveSection objective)
    {
        var losses = objective.LossType is { } given ? $" ({string.Join(", ", given.Values)})" : "";
        var compared = objective switch
        {
            { Teacher: { } teacher } => $", teacher {ShownPath.Of(teacher)}{(objective.TeacherTopK is { } top ? $", its {top} most likely tokens" : "")}{(objective.SeqKd ? ", on its answers" : "")}{(objective.Lmbda > 0 ? $", {Amount.Percent(objective.Lmbda)} of the steps on the student's own answers" : "")}",
            { ReferenceFree: true } => ", without a reference",
            { Type: "dpo" or "kto" or "bco" } => $", reference {(objective.Reference is "start" or "base" ? objective.Reference : ShownPath.Of(objective.Reference))}{(objective.SyncRefModel ? $", which follows every {objective.RefModelSyncSteps} steps" : "")}",
            _ => "",
        };
        return $"{objective.Type}{losses}{compared}";
    }
}
