namespace OpenWeights.Tune.Extensions;

/// <summary>
/// Scores generated answers against those of the rows; the mean is reported. A class of your own is named in evaluation.metrics or in --metrics of a
/// command, or handed over in EvaluationSection.CustomMetrics; it needs a constructor without parameters, or one that takes the evaluation section.
/// </summary>
public interface IAnswerMetric
{
    /// <summary>Its name in reports; that of the class unless it says otherwise.</summary>
    string Name => GetType().Name;

    /// <summary>The score of an answer; higher is better.</summary>
    /// <param name="given">What the model answered, without white space around it.</param>
    /// <param name="expected">The answer of the row, without white space around it.</param>
    double Score(string given, string expected);
}
