using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using OpenTelemetry;
using OpenTelemetry.Metrics;

namespace OpenWeights.Tune.Server.Metrics;

/// <summary>
/// GET /metrics: what OpenTelemetry collects of the engine, in Prometheus' text form. OpenTelemetry's own exporter writes vllm_ where vLLM, and the dashboards
/// that are made for it, have vllm:.
/// </summary>
internal sealed class MetricsPage : IDisposable
{
    private const string Meter = "OpenWeights.Tune";
    private const int MostSeconds = 10;

    private readonly PrometheusExporter _exporter = new();
    private readonly MeterProvider _provider;
    private readonly Lock _lock = new();

    internal MetricsPage()
    {
        _provider = Sdk.CreateMeterProviderBuilder().AddMeter(Meter).AddReader(new BaseExportingMetricReader(_exporter)).Build();
    }

    internal void Map(IEndpointRouteBuilder routes) => routes.MapGet("/metrics", AnswerAsync);

    public void Dispose() => _provider.Dispose();

    private async Task AnswerAsync(HttpContext context)
    {
        context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
        await context.Response.WriteAsync(Collect(), context.RequestAborted).ConfigureAwait(false);
    }

    private string Collect()
    {
        lock (_lock)
        {
            _ = _exporter.Collect?.Invoke(MostSeconds * 1000);
            return _exporter.Text;
        }
    }
}
