using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Server.Measuring;

/// <summary>Measures any server of OpenAI's protocol with real requests: chats that are streamed.</summary>
/// <param name="settings">What is asked.</param>
internal sealed class ServerBenchmark(ServerBenchmarkSettings settings) : IDisposable
{
    private static readonly string[] s_topics = ["a lighthouse", "the winter sea", "an old clock", "two rivers", "a garden of stones", "the first train", "a lost letter", "bread", "the night shift", "a map without names"];

    private readonly HttpClient _client = new(new SocketsHttpHandler { PooledConnectionLifetime = Timeout.InfiniteTimeSpan }) { Timeout = TimeSpan.FromMinutes(10) };
    private int _asked;

    /// <summary>A closed loop: each client asks again as soon as it has its answer.</summary>
    /// <param name="clients">Number of clients.</param>
    /// <param name="requests">Number of requests of each client.</param>
    /// <param name="stop">Cancels.</param>
    public async Task<ServerBenchmarkResult> ClosedAsync(int clients, int requests, CancellationToken stop = default)
    {
        _ = await AskAsync(stop).ConfigureAwait(false);
        var started = Stopwatch.GetTimestamp();
        var answers = await Task.WhenAll(Enumerable.Range(0, clients).Select(async _ =>
        {
            List<Answered> mine = [];
            for (var i = 0; i < requests; i++)
            {
                mine.Add(await AskAsync(stop).ConfigureAwait(false));
            }

            return mine;
        })).ConfigureAwait(false);
        return Result([.. answers.SelectMany(static a => a)], Stopwatch.GetElapsedTime(started), clients, null);
    }

    /// <summary>An open loop: requests come at random times, whether earlier ones are answered or not.</summary>
    /// <param name="rate">Requests per second, on average.</param>
    /// <param name="requests">Number of requests.</param>
    /// <param name="stop">Cancels.</param>
    public async Task<ServerBenchmarkResult> OpenAsync(double rate, int requests, CancellationToken stop = default)
    {
        _ = await AskAsync(stop).ConfigureAwait(false);
        var random = new Random(1);
        var started = Stopwatch.GetTimestamp();
        List<Task<Answered>> answers = [];
        var due = TimeSpan.Zero;
        for (var i = 0; i < requests; i++)
        {
            // Times between arrivals of a Poisson process.
            due += TimeSpan.FromSeconds(-Math.Log(1 - random.NextDouble()) / rate);
            if (due - Stopwatch.GetElapsedTime(started) is { Ticks: > 0 } wait)
            {
                await Task.Delay(wait, stop).ConfigureAwait(false);
            }

            answers.Add(AskAsync(stop));
        }

        return Result(await Task.WhenAll(answers).ConfigureAwait(false), Stopwatch.GetElapsedTime(started), null, rate);
    }

    /// <inheritdoc/>
    public void Dispose() => _client.Dispose();

    private string Root => settings.Address.ToString().TrimEnd('/') is var address && address.EndsWith("/v1", StringComparison.Ordinal) ? address[..^3] : address;

    private async Task<Answered> AskAsync(CancellationToken stop)
    {
        var started = Stopwatch.GetTimestamp();
        using var request = new HttpRequestMessage(HttpMethod.Post, $"{Root}/v1/chat/completions") { Content = new StringContent(Body(), Encoding.UTF8, "application/json") };
        if (settings.ApiKey is { } key)
        {
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        }

        using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stop).ConfigureAwait(false);
        if (!response.IsSuccessStatusCode)
        {
            throw new HttpRequestException($"{settings.Address} answered {(int)response.StatusCode}: {await response.Content.ReadAsStringAsync(stop).ConfigureAwait(false)}");
        }

        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(stop).ConfigureAwait(false));
        var (first, tokens) = (TimeSpan.Zero, 0);
        while (await reader.ReadLineAsync(stop).ConfigureAwait(false) is { } line)
        {
            if (!line.StartsWith("data: {", StringComparison.Ordinal))
            {
                continue;
            }

            var data = JsonNode.Parse(line["data: ".Length..])!;
            var delta = data["choices"] is JsonArray { Count: > 0 } choices ? choices[0]!["delta"] : null;
            first = first == TimeSpan.Zero && (delta?["content"] ?? delta?["reasoning_content"])?.ToString() is { Length: > 0 } ? Stopwatch.GetElapsedTime(started) : first;
            tokens = (int?)data["usage"]?["completion_tokens"] ?? tokens;
        }

        return new Answered(first, Stopwatch.GetElapsedTime(started), tokens);
    }

    private string Body()
    {
        var number = Interlocked.Increment(ref _asked);
        var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = $"Write the story number {number} about {s_topics[number % s_topics.Length]}." });
        var body = new JsonObject
        {
            ["messages"] = messages,
            ["max_tokens"] = settings.NewTokens,
            ["temperature"] = 0,
            ["ignore_eos"] = true,
            ["stream"] = true,
            ["stream_options"] = new JsonObject { ["include_usage"] = true },
        };
        if (settings.Model is { } model)
        {
            body["model"] = model;
        }

        return body.ToJsonString();
    }

    private static ServerBenchmarkResult Result(IReadOnlyList<Answered> answers, TimeSpan time, int? clients, double? rate)
    {
        var tokens = answers.Sum(static a => a.Tokens);
        return new ServerBenchmarkResult
        {
            Clients = clients,
            Rate = rate,
            Requests = answers.Count,
            Tokens = tokens,
            TokensPerSecond = tokens / time.TotalSeconds,
            FirstTokenMedian = Quantile(answers.Select(static a => a.First), 0.5),
            FirstTokenP95 = Quantile(answers.Select(static a => a.First), 0.95),
            AnswerMedian = Quantile(answers.Select(static a => a.Whole), 0.5),
            AnswerP95 = Quantile(answers.Select(static a => a.Whole), 0.95),
        };
    }

    private static double Quantile(IEnumerable<TimeSpan> times, double share)
    {
        var ordered = times.Select(static t => t.TotalSeconds).Order().ToList();
        return ordered[(int)Math.Min(ordered.Count - 1, Math.Ceiling(share * ordered.Count) - 1)];
    }

    private sealed record Answered(TimeSpan First, TimeSpan Whole, int Tokens);
}

/// <summary>What a <see cref="ServerBenchmark"/> asks.</summary>
/// <param name="Address">The server, without /v1.</param>
/// <param name="NewTokens">Number of tokens of each answer.</param>
internal sealed record ServerBenchmarkSettings(Uri Address, int NewTokens)
{
    /// <summary>The model's name; null for the server's own.</summary>
    public string? Model { get; init; }

    /// <summary>The key; null for none.</summary>
    public string? ApiKey { get; init; }
}

/// <summary>What a <see cref="ServerBenchmark"/> measured; times in seconds.</summary>
internal sealed record ServerBenchmarkResult
{
    /// <summary>Number of clients of a closed loop; null for an open one.</summary>
    public int? Clients { get; init; }

    /// <summary>Requests per second of an open loop; null for a closed one.</summary>
    public double? Rate { get; init; }

    /// <summary>Number of answers.</summary>
    public int Requests { get; init; }

    /// <summary>Tokens of all answers.</summary>
    public int Tokens { get; init; }

    /// <summary>Tokens per second, of all answers together.</summary>
    public double TokensPerSecond { get; init; }

    /// <summary>Median time from a request to its first token.</summary>
    public double FirstTokenMedian { get; init; }

    /// <summary>The time within which 95 % of the requests have their first token.</summary>
    public double FirstTokenP95 { get; init; }

    /// <summary>Median time of a whole answer.</summary>
    public double AnswerMedian { get; init; }

    /// <summary>The time within which 95 % of the answers are whole.</summary>
    public double AnswerP95 { get; init; }
}
