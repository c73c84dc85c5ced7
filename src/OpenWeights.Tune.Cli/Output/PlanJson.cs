using System.Text.Json.Nodes;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>The plan of a run as JSON, with some rows; the counterpart of <see cref="PlanText"/>.</summary>
internal static class PlanJson
{
    internal static JsonObject Of(RunPlan plan, IReadOnlyList<TokenRow> rows, int count) => new()
    {
        ["model"] = new JsonObject
        {
            ["path"] = plan.Config.Model.Path,
            ["model_type"] = plan.ModelType,
            ["parameters"] = plan.BaseParameters,
            ["dtype"] = plan.DType,
            ["device"] = plan.Device,
            ["quantization"] = plan.Config.Quantization?.Type ?? (plan.Config.Model.Quantized == "keep" ? plan.BaseQuantization : null),
        },
        ["trained_parameters"] = plan.TrainedParameters,
        ["train"] = Data(plan.Train, plan.Config.Data.MaxLength),
        ["eval"] = plan.Eval is { } eval ? Data(eval, plan.Config.Data.MaxLength) : null,
        ["padding"] = plan.Padding,
        ["steps"] = plan.TotalSteps,
        ["steps_per_epoch"] = plan.StepsPerEpoch,
        ["steps_done"] = plan.StepsDone,
        ["rows_per_step"] = plan.Config.Training.RowsAtOnce * plan.Config.Training.GradientAccumulationSteps * plan.Ranks,
        ["memory"] = new JsonObject
        {
            ["weights"] = plan.Memory.Weights,
            ["adapter"] = plan.Memory.Adapter,
            ["reference"] = plan.Memory.Compared,
            ["gradients"] = plan.Memory.Gradients,
            ["optimizer"] = plan.Memory.Optimizer,
            ["activations"] = plan.Memory.Activations,
            ["sampling"] = plan.Memory.Sampling,
            ["program"] = plan.Memory.Program,
            ["peak"] = plan.Memory.Total,
            ["needed"] = plan.MemoryNeeded,
            ["available"] = plan.Room?.Bytes,
        },
        ["objective"] = plan.Config.Objective.Type,
        ["stored_log_probabilities"] = plan.LogProbs is { } stored
            ? new JsonObject { ["path"] = stored.Path, ["rows"] = stored.Rows, ["tokens"] = stored.Targets, ["bytes"] = stored.Bytes, ["is_there"] = stored.IsThere } : null,
        ["stored_answers"] = plan.TeacherAnswers is { } answers ? new JsonObject { ["path"] = answers.Path, ["rows"] = answers.Rows, ["is_there"] = answers.IsThere } : null,
        ["output_dir"] = plan.Config.OutputDir,
        ["preview"] = new JsonArray([.. rows.Take(count).Select(static r => (JsonNode)new JsonObject
        {
            ["source"] = r.Source,
            ["input_ids"] = new JsonArray([.. r.Ids.Select(static i => (JsonNode)i)]),
            ["labels"] = new JsonArray([.. r.Labels.Select(static i => (JsonNode)i)]),
        })]),
    };

    private static JsonObject Data(DataReport report, int maxLength) => new()
    {
        ["rows"] = report.Rows,
        ["tokens"] = report.Tokens,
        ["trained_tokens"] = report.TargetTokens,
        ["longest"] = report.Longest,
        ["packed_rows"] = report.PackedRows,
        ["changes"] = new JsonArray([.. report.Changes(maxLength).Select(static c => (JsonNode)c)]),
        ["files"] = new JsonArray([.. report.Files.Select(static f => (JsonNode)new JsonObject { ["path"] = f.Path, ["format"] = f.Format, ["rows"] = f.Rows })]),
    };
}
