using System.Globalization;
using System.Text;
using OpenTelemetry;
using OpenTelemetry.Metrics;

namespace OpenWeights.Tune.Server.Metrics;

/// <summary>Writes metrics in Prometheus' text form, with vLLM's names: vllm.request_success becomes vllm:request_success_total.</summary>
[ExportModes(ExportModes.Pull)]
internal sealed class PrometheusExporter : BaseExporter<Metric>, IPullMetricExporter
{
    /// <inheritdoc/>
    public Func<int, bool>? Collect { get; set; }

    /// <summary>What was exported last.</summary>
    internal string Text { get; private set; } = "";

    public override ExportResult Export(in Batch<Metric> batch)
    {
        var text = new StringBuilder();
        foreach (var metric in batch)
        {
            Write(text, metric);
        }

        Text = text.ToString();
        return ExportResult.Success;
    }

    private static void Write(StringBuilder text, Metric metric)
    {
        var isCounter = metric.MetricType is MetricType.LongSum or MetricType.DoubleSum;
        var isHistogram = metric.MetricType == MetricType.Histogram;
        var name = Name(metric.Name) + (metric.Unit == "s" ? "_seconds" : "") + (isCounter ? "_total" : "");
        _ = text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {metric.Description.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal)}\n")
            .Append(CultureInfo.InvariantCulture, $"# TYPE {name} {(isHistogram ? "histogram" : isCounter ? "counter" : "gauge")}\n");
        var common = Labels(metric.MeterTags);
        foreach (ref readonly var point in metric.GetMetricPoints())
        {
            List<string> own = [.. common];
            foreach (var (key, value) in point.Tags)
            {
                own.Add(Label(key, value));
            }

            List<string> labels = [.. own.Distinct()];
            if (isHistogram)
            {
                WriteHistogram(text, name, labels, point);
            }
            else
            {
                Line(text, name, labels, metric.MetricType switch
                {
                    MetricType.LongSum or MetricType.LongSumNonMonotonic => point.GetSumLong(),
                    MetricType.DoubleSum or MetricType.DoubleSumNonMonotonic => point.GetSumDouble(),
                    MetricType.LongGauge => point.GetGaugeLastValueLong(),
                    _ => point.GetGaugeLastValueDouble(),
                });
            }
        }
    }

    // Each bucket counts what is in those before it too.
    private static void WriteHistogram(StringBuilder text, string name, IReadOnlyList<string> labels, MetricPoint point)
    {
        long count = 0;
        foreach (var bucket in point.GetHistogramBuckets())
        {
            count += bucket.BucketCount;
            Line(text, name + "_bucket", [.. labels, Label("le", Number(bucket.ExplicitBound))], count);
        }

        Line(text, name + "_sum", labels, point.GetHistogramSum());
        Line(text, name + "_count", labels, point.GetHistogramCount());
    }

    private static void Line(StringBuilder text, string name, IReadOnlyList<string> labels, double value) =>
        text.Append(name).Append(labels.Count == 0 ? "" : $"{{{string.Join(',', labels)}}}").Append(' ').Append(Number(value)).Append('\n');

    private static IEnumerable<string> Labels(IEnumerable<KeyValuePair<string, object?>>? tags) => (tags ?? []).Select(static t => Label(t.Key, t.Value));

    private static string Label(string key, object? value) =>
        $"{Name(key)}=\"{Convert.ToString(value, CultureInfo.InvariantCulture)?.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal)}\"";

    private static string Name(string name) => name.StartsWith("vllm.", StringComparison.Ordinal) ? $"vllm:{name[5..].Replace('.', '_')}" : name.Replace('.', '_');

    private static string Number(double value) => double.IsPositiveInfinity(value) ? "+Inf" : value.ToString("R", CultureInfo.InvariantCulture);
}
