using System.Text.Json;
using System.Text.Json.Serialization;

namespace OpenWeights.Tune.Training;

/// <summary>Where a run stands, beside its weights and the optimizer's tensors: state.json of a checkpoint.</summary>
public sealed record TrainerState
{
    /// <summary>Steps done, those that were skipped among them.</summary>
    [JsonPropertyName("step")]
    public required long Step { get; init; }

    /// <summary>Steps of the run.</summary>
    [JsonPropertyName("total_steps")]
    public required long TotalSteps { get; init; }

    /// <summary>Steps that changed the weights.</summary>
    [JsonPropertyName("updates")]
    public required long Updates { get; init; }

    /// <summary>Float16: what the loss is multiplied by before backward; null in other dtypes.</summary>
    [JsonPropertyName("loss_scale")]
    public double? LossScale { get; init; }

    /// <summary>Float16: steps since the scale last changed.</summary>
    [JsonPropertyName("loss_scale_good_steps")]
    public int LossScaleGoodSteps { get; init; }

    /// <summary>Float16: steps that were left out because their gradients overflowed.</summary>
    [JsonPropertyName("loss_scale_skipped")]
    public long LossScaleSkipped { get; init; }

    /// <summary>The losses that the next one is compared with.</summary>
    [JsonPropertyName("recent_losses")]
    public IReadOnlyList<double> RecentLosses { get; init; } = [];

    /// <summary>The last step that was followed by an evaluation.</summary>
    [JsonPropertyName("evaluated_step")]
    public long EvaluatedStep { get; init; }

    /// <summary>The least eval loss so far, or null.</summary>
    [JsonPropertyName("best_loss")]
    public double? BestLoss { get; init; }

    /// <summary>The step of the least eval loss.</summary>
    [JsonPropertyName("best_step")]
    public long BestStep { get; init; }

    /// <summary>Evaluations since then.</summary>
    [JsonPropertyName("evaluations_without_improvement")]
    public int EvaluationsWithoutImprovement { get; init; }
}

/// <summary>JSON has no NaN: what is not finite is written as null, and null is read as NaN.</summary>
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
