using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Training;

/// <summary>State of a run besides weights and optimizer tensors: state.json of a checkpoint.</summary>
internal sealed record TrainerState
{
    /// <summary>Number of completed steps, including skipped ones.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>Number of steps of the run.</summary>
    [JsonPropertyName("total_steps")]
    public required long TotalSteps { get; init; }

    /// <summary>Number of steps that changed the weights.</summary>
    [JsonPropertyName("updates")]
    public required long Updates { get; init; }

    /// <summary>Float16: the loss scale; null in other dtypes.</summary>
    [JsonPropertyName("loss_scale")]
    public double? LossScale { get; init; }

    /// <summary>Float16: number of steps since the scale last changed.</summary>
    [JsonPropertyName("loss_scale_good_steps")]
    public int LossScaleGoodSteps { get; init; }

    /// <summary>Float16: number of steps skipped because their gradients overflowed.</summary>
    [JsonPropertyName("loss_scale_skipped")]
    public long LossScaleSkipped { get; init; }

    /// <summary>The previous losses, for spike detection.</summary>
    [JsonPropertyName("recent_losses")]
    public IReadOnlyList<double> RecentLosses { get; init; } = [];

    /// <summary>What the objective keeps besides the weights; null for nothing.</summary>
    [JsonPropertyName("objective")]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public JsonObject? Objective { get; init; }

    /// <summary>The last step followed by an evaluation.</summary>
    [JsonPropertyName("evaluated_step")]
    public long EvaluatedStep { get; init; }

    /// <summary>The lowest eval loss so far, or null.</summary>
    [JsonPropertyName("best_loss")]
    public double? BestLoss { get; init; }

    /// <summary>The step of the lowest eval loss.</summary>
    [JsonPropertyName("best_step")]
    public long BestStep { get; init; }

    /// <summary>Number of evaluations since then.</summary>
    [JsonPropertyName("evaluations_without_improvement")]
    public int EvaluationsWithoutImprovement { get; init; }
}

/// <summary>JSON has no NaN: numbers that are not finite are written as null, and null is read as NaN.</summary>
internal sealed class FiniteOrNullConverter : JsonConverter<double>
{
    public override bool HandleNull => true;

    public override double Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.TokenType == JsonTokenType.Null ? double.NaN : reader.GetDouble();

    public override void Write(Utf8JsonWriter writer, double value, JsonSerializerOptions options)
    {
        if (double.IsFinite(value))
        {
            writer.WriteNumberValue(value);
        }
        else
        {
            writer.WriteNullValue();
        }
    }
}
