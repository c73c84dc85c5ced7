using System.Globalization;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Training;

/// <summary>Tells once when the eval loss rises while the training loss falls: the model memorizes its training rows.</summary>
/// <param name="keepsBest">Whether the weights with the lowest eval loss are kept.</param>
internal sealed class OverfitWatch(bool keepsBest)
{
    // By how much the eval loss must be above its lowest, so that noise is not taken for a rise.
    private const double Rise = 0.02;

    private readonly List<double> _losses = [];
    private (long Step, double Eval, double Train)? _best;
    private double _previous = double.NaN;
    private bool _isTold;

    /// <summary>Takes the training loss of a step.</summary>
    internal void Stepped(double loss)
    {
        if (double.IsFinite(loss))
        {
            _losses.Add(loss);
        }
    }

    /// <summary>Takes an eval loss.</summary>
    /// <param name="step">Number of completed steps.</param>
    /// <param name="loss">The eval loss.</param>
    /// <returns>A warning, with what to try; null if there is nothing to tell, or it was told.</returns>
    internal string? Evaluated(long step, double loss)
    {
        var train = _losses.Count > 0 ? _losses.Average() : double.NaN;
        _losses.Clear();
        var before = _previous;
        _previous = loss;
        if (_best is not { } best || !(loss >= best.Eval))
        {
            _best = (step, loss, train);
            return null;
        }

        // It must have risen twice, the last time too, while the training loss fell.
        if (_isTold || !(loss > before) || !(before > best.Eval) || !(loss > best.Eval * (1 + Rise)) || !(train < best.Train))
        {
            return null;
        }

        _isTold = true;
        return string.Create(
            CultureInfo.InvariantCulture,
            $"the eval loss rises while the training loss falls: since step {best.Step} from {best.Eval:F4} to {loss:F4}, the training loss from {best.Train:F4} to {train:F4}. The model begins to memorize its training rows. ")
            + (keepsBest ? "The weights with the lowest eval loss are kept; " : "Set evaluation.keep_best to keep the weights with the lowest eval loss; ")
            + "evaluation.early_stopping_patience ends such a run, and fewer epochs, a lower training.learning_rate, or more rows avoid it.";
    }

    /// <summary>Takes what a resumed run has recorded.</summary>
    /// <param name="lines">The lines of metrics.jsonl.</param>
    internal void Restore(IEnumerable<JsonObject> lines)
    {
        foreach (var line in lines)
        {
            if (line["eval_loss"] is JsonValue evaluated)
            {
                _ = Evaluated(line["step"]!.GetValue<long>(), evaluated.GetValue<double>());
            }
            else if (line["loss"] is JsonValue loss)
            {
                Stepped(loss.GetValue<double>());
            }
        }
    }
}
