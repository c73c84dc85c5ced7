using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Training.Recording.Mlflow;

/// <summary>Sends requests to an MLflow server (<see href="https://mlflow.org/docs/latest/rest-api.html"/>). What may pass is tried again.</summary>
/// <param name="settings">How the server is reached.</param>
internal sealed class MlflowClient(MlflowSettings settings) : IDisposable
{
    /// <summary>Largest number of parameters of a batch.</summary>
    internal const int MostParams = 100;

    /// <summary>Largest number of metrics of a batch.</summary>
    internal const int MostMetrics = 1000;

    /// <summary>Largest length of a parameter's value.</summary>
    internal const int LongestParam = 6000;

    private readonly HttpClient _http = new(new SocketsHttpHandler { AllowAutoRedirect = false }) { Timeout = Timeout.InfiniteTimeSpan };

    /// <summary>The server's address.</summary>
    internal Uri Server => settings.Server;

    /// <summary>Sends a JSON object.</summary>
    /// <param name="path">Path after api/2.0/mlflow/.</param>
    /// <param name="body">The object.</param>
    /// <param name="stop">Cancels it.</param>
    /// <exception cref="MlflowAwayException">The server cannot be reached, or cannot answer now.</exception>
    /// <exception cref="MlflowRefusedException">The server refuses.</exception>
    internal Task<JsonObject> Post(string path, JsonObject body, CancellationToken stop)
    {
        var text = body.ToJsonString();
        return Try(() => new HttpRequestMessage(HttpMethod.Post, Address($"api/2.0/mlflow/{path}")) { Content = new StringContent(text, Encoding.UTF8, "application/json") }, stop);
    }

    /// <summary>Asks for a JSON object.</summary>
    /// <param name="path">Path after api/2.0/mlflow/, with the query.</param>
    /// <param name="stop">Cancels it.</param>
    /// <inheritdoc cref="Post"/>
    internal Task<JsonObject> Get(string path, CancellationToken stop) => Try(() => new HttpRequestMessage(HttpMethod.Get, Address($"api/2.0/mlflow/{path}")), stop);

    /// <summary>Uploads a file.</summary>
    /// <param name="path">Path below the server's artifacts.</param>
    /// <param name="file">The file.</param>
    /// <param name="stop">Cancels it.</param>
    /// <inheritdoc cref="Post"/>
    internal async Task Put(string path, string file, CancellationToken stop) => _ = await Try(
        () => new HttpRequestMessage(HttpMethod.Put, Address($"api/2.0/mlflow-artifacts/artifacts/{string.Join('/', path.Split('/').Select(Uri.EscapeDataString))}")) { Content = new StreamContent(File.OpenRead(file)) },
        stop, isLong: true).ConfigureAwait(false);

    /// <inheritdoc/>
    public void Dispose() => _http.Dispose();

    private Uri Address(string path) => new(settings.Server.ToString().TrimEnd('/') + "/" + path);

    private async Task<JsonObject> Try(Func<HttpRequestMessage> create, CancellationToken stop, bool isLong = false)
    {
        for (var attempt = 1; ; attempt++)
        {
            string problem;
            try
            {
                using var request = create();
                request.Headers.Authorization = settings.Authorization;
                using var limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
                limit.CancelAfter(isLong ? Timeout.InfiniteTimeSpan : settings.Timeout);
                using var response = await _http.SendAsync(request, limit.Token).ConfigureAwait(false);
                var text = await response.Content.ReadAsStringAsync(limit.Token).ConfigureAwait(false);
                if (response.IsSuccessStatusCode)
                {
                    return Parsed(text) ?? [];
                }

                var status = (int)response.StatusCode;
                if (status is not (408 or 429 or >= 500))
                {
                    throw Refusal(status, text);
                }

                problem = $"it answers {status}";
            }
            catch (Exception e) when (e is HttpRequestException or IOException)
            {
                problem = e.Message.TrimEnd('.');
            }
            catch (OperationCanceledException) when (!stop.IsCancellationRequested)
            {
                problem = $"it did not answer within {settings.Timeout.TotalSeconds:F0} s";
            }

            if (attempt >= settings.Attempts)
            {
                throw new MlflowAwayException(problem);
            }

            await Task.Delay(settings.FirstWait * Math.Pow(2, attempt - 1), stop).ConfigureAwait(false);
        }
    }

    private static MlflowRefusedException Refusal(int status, string text)
    {
        var answer = Parsed(text);
        var (code, message) = (answer?["error_code"]?.ToString(), answer?["message"]?.ToString().Split('\n')[0]);
        return status is 401 or 403
            ? new MlflowRefusedException("UNAUTHENTICATED", $"access is denied ({status}); set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
            : new MlflowRefusedException(code, code is null ? $"it does not answer as MLflow does ({status}); check mlflow.tracking_uri" : $"{message?.TrimEnd('.')} ({code})");
    }

    private static JsonObject? Parsed(string text)
    {
        try
        {
            return JsonNode.Parse(text) as JsonObject;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <summary>The server cannot be reached, or cannot answer now.</summary>
/// <param name="message">Why.</param>
internal sealed class MlflowAwayException(string message) : Exception(message);

/// <summary>The server refuses a request.</summary>
/// <param name="code">MLflow's code; null if the answer is not MLflow's.</param>
/// <param name="message">Why.</param>
internal sealed class MlflowRefusedException(string? code, string message) : Exception(message)
{
    /// <summary>MLflow's code.</summary>
    internal string? Code => code;
}
