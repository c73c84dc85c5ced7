using System.Diagnostics;
using System.Diagnostics.Metrics;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>
/// The metrics of an engine, of the meter OpenWeights.Tune. They are those of vLLM, so that its dashboards can be used: an exporter to Prometheus writes
/// vllm.time_to_first_token in s as vllm_time_to_first_token_seconds.
/// </summary>
internal sealed class EngineMetrics : IDisposable
{
    /// <summary>Name of the meter.</summary>
    internal const string MeterName = "OpenWeights.Tune";

    private static readonly double[] s_long = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300, 600, 1800, 7200];
    private static readonly double[] s_short = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 40];
    private static readonly long[] s_tokens = [1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];

    private readonly Meter _meter;
    private readonly string? _model;
    private readonly Histogram<double> _queue;
    private readonly Histogram<double> _prefill;
    private readonly Histogram<double> _decode;
    private readonly Histogram<double> _first;
    private readonly Histogram<double> _between;
    private readonly Histogram<double> _whole;
    private readonly Histogram<long> _promptTokens;
    private readonly Histogram<long> _newTokens;
    private readonly Counter<long> _success;

    /// <summary>Creates the metrics.</summary>
    /// <param name="model">Name of the model, the tag model_name; null for none.</param>
    /// <param name="status">Gives what the engine does now.</param>
    internal EngineMetrics(string? model, Func<EngineStatus> status)
    {
        (_model, _meter) = (model, new Meter(new MeterOptions(MeterName) { Tags = model is null ? null : [new("model_name", model)] }));
        _queue = Seconds("request_queue_time", "Time that a text waited", s_long);
        _prefill = Seconds("request_prefill_time", "Time from a text's turn to its first token", s_long);
        _decode = Seconds("request_decode_time", "Time from a text's first token to its last", s_long);
        _first = Seconds("time_to_first_token", "Time from a request to its first token", s_long);
        _between = Seconds("inter_token_latency", "Time between two tokens of a text", s_short);
        _whole = Seconds("e2e_request_latency", "Time from a request to its last token", s_long);
        _promptTokens = Tokens("request_prompt_tokens", "Tokens of a prompt");
        _newTokens = Tokens("request_generation_tokens", "Generated tokens of a text");
        _success = _meter.CreateCounter<long>("vllm.request_success", null, "Texts that are finished");
        Gauge("num_requests_running", "Texts that are generated", s => s.Running);
        Gauge("num_requests_waiting", "Texts that wait", s => s.Waiting);
        _ = _meter.CreateObservableGauge("vllm.kv_cache_usage_perc", () => Measured(status() is { MaxBytes: > 0 } s ? (double)s.UsedBytes / s.MaxBytes : 0), null, "Share of the memory of states that texts use; 1 is all");
        Count("prompt_tokens", "Tokens of prompts", s => s.PromptTokens);
        Count("generation_tokens", "Generated tokens", s => s.GeneratedTokens);
        Count("prefix_cache_queries", "Tokens of prompts whose states were looked for", s => s.PromptTokens);
        Count("prefix_cache_hits", "Tokens of prompts whose states were held", s => s.CachedPromptTokens);
        Count("num_preemptions", "Texts that were read again for lack of memory", s => s.Preemptions);

        void Gauge(string name, string description, Func<EngineStatus, long> value) => _ = _meter.CreateObservableGauge($"vllm.{name}", () => Measured(value(status())), null, description);
        void Count(string name, string description, Func<EngineStatus, long> value) => _ = _meter.CreateObservableCounter($"vllm.{name}", () => Measured(value(status())), null, description);
    }

    /// <summary>A text began.</summary>
    internal void Began(EngineText text) => _queue.Record(Time(text.Added, text.Began), Tags());

    /// <summary>A text got a token.</summary>
    /// <param name="text">The text.</param>
    /// <param name="now">Timestamp.</param>
    internal void Took(EngineText text, long now)
    {
        if (text.First == 0)
        {
            text.First = now;
            _prefill.Record(Time(text.Began, now), Tags());
            _first.Record(Time(text.Added, now), Tags());
        }
        else
        {
            _between.Record(Time(text.Last, now), Tags());
        }

        text.Last = now;
    }

    /// <summary>A text is over.</summary>
    /// <param name="text">The text.</param>
    /// <param name="reason">Why: stop, length, abort or error.</param>
    internal void Ended(EngineText text, string reason)
    {
        var tags = Tags();
        tags.Add("finished_reason", reason);
        _success.Add(1, tags);
        if (reason is "stop" or "length")
        {
            _whole.Record(Time(text.Added, text.Last), Tags());
            _decode.Record(Time(text.First, text.Last), Tags());
            _promptTokens.Record(text.Request.Prompt.Count, Tags());
            _newTokens.Record(text.Made, Tags());
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _meter.Dispose();

    private static double Time(long from, long to) => Stopwatch.GetElapsedTime(from, to).TotalSeconds;

    private TagList Tags() => _model is null ? default : new TagList { { "model_name", _model } };

    private Measurement<T> Measured<T>(T value)
        where T : struct => _model is null ? new Measurement<T>(value) : new Measurement<T>(value, new KeyValuePair<string, object?>("model_name", _model));

    private Histogram<double> Seconds(string name, string description, double[] bounds) =>
        _meter.CreateHistogram($"vllm.{name}", "s", description, null, new InstrumentAdvice<double> { HistogramBucketBoundaries = bounds });

    private Histogram<long> Tokens(string name, string description) =>
        _meter.CreateHistogram($"vllm.{name}", null, description, null, new InstrumentAdvice<long> { HistogramBucketBoundaries = s_tokens });
}
