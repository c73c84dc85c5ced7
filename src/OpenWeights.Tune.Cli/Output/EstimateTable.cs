using OpenWeights.Tune.Evaluation;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Prints metrics, of the base model beside those of its adapter.</summary>
internal static class EstimateTable
{
    /// <summary>Prints a table.</summary>
    internal static void Write(TextWriter output, IReadOnlyList<MetricResult> metrics)
    {
        var width = Math.Max(6, metrics.Max(static m => m.Name.Length));
        var hasBase = metrics[0].Base is not null;
        output.WriteLine($"  {"metric".PadRight(width)}  {(hasBase ? $"{"base",-18}{"with the adapter",-18}{"difference",-18}" : $"{"value",-18}")}95 %");
        foreach (var metric in metrics)
        {
            var values = hasBase ? $"{Text(metric.Base!),-18}{Text(metric.Value),-18}{Signed(metric.Difference!),-18}" : $"{Text(metric.Value),-18}";
            output.WriteLine($"  {metric.Name.PadRight(width)}  {values}{Number(metric.Value.Low)} to {Number(metric.Value.High)}");
        }
    }

    private static string Text(Estimate estimate) => double.IsNaN(estimate.StandardError) ? Number(estimate.Value) : $"{Number(estimate.Value)} ± {Number(estimate.StandardError)}";

    private static string Signed(Estimate estimate) => (estimate.Value < 0 ? "" : "+") + Text(estimate);

    private static string Number(double value) => Amount.Number(value, Math.Abs(value) >= 10 ? "F2" : "F4");
}

/// <summary>A metric of a model, and that of its base beside it.</summary>
/// <param name="Name">Name of the metric.</param>
/// <param name="Value">The model's.</param>
/// <param name="Base">The base model's; null without an adapter.</param>
/// <param name="Difference">How much better the model is; null without an adapter.</param>
internal sealed record MetricResult(string Name, Estimate Value, Estimate? Base, Estimate? Difference)
{
    /// <summary>The metrics as JSON, by name.</summary>
    internal static Dictionary<string, object> Json(IEnumerable<MetricResult> metrics) => metrics.ToDictionary(
        static m => m.Name,
        static m => m.Base is null ? Json(m.Value) : new Dictionary<string, object>((Dictionary<string, object>)Json(m.Value)) { ["base"] = Json(m.Base), ["difference"] = Json(m.Difference!) });

    private static object Json(Estimate estimate) => new Dictionary<string, object> { ["value"] = estimate.Value, ["stderr"] = estimate.StandardError, ["low"] = estimate.Low, ["high"] = estimate.High };
}
