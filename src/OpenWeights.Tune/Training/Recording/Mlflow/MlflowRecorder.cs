using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Threading.Channels;
using OpenWeights.Formats.Json;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Training.Recording.Mlflow;

/// <summary>
/// Records a run by an MLflow server, in the background: metrics are collected and sent together, and a server that is away or refuses is told of once
/// and never stops or delays the run, whose own files have all of it.
/// </summary>
internal sealed class MlflowRecorder : IDisposable
{
    /// <summary>Name of the file that remembers the server's run.</summary>
    internal const string StateName = "mlflow.json";

    private readonly Channel<MlflowMetric> _metrics = Channel.CreateUnbounded<MlflowMetric>(new UnboundedChannelOptions { SingleReader = true });
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource _isEnding = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly MlflowSettings _settings;
    private readonly MlflowClient _client;
    private readonly MlflowRun _run;
    private readonly Action<string> _warn;
    private readonly ConcurrentQueue<string> _warnings = new();
    private readonly Task _work;
    private string _status = "FAILED";
    private IReadOnlyList<(string Name, string Path)> _files = [];
    private bool _isTold;

    /// <summary>Begins to record.</summary>
    /// <param name="run">The run.</param>
    /// <param name="settings">How the server is reached.</param>
    /// <param name="warn">Receives warnings, where <see cref="Tell"/> or Dispose is called.</param>
    internal MlflowRecorder(MlflowRun run, MlflowSettings settings, Action<string> warn)
    {
        (_run, _settings, _warn, _client) = (run, settings, warn, new MlflowClient(settings));
        _work = Task.Run(Work);
    }

    /// <summary>A recorder for a run whose config asks for one.</summary>
    /// <param name="config">The config.</param>
    /// <param name="folder">The run's folder.</param>
    /// <param name="isResumed">Whether the run goes on.</param>
    /// <param name="warn">Receives warnings, where <see cref="Tell"/> or Dispose is called.</param>
    internal static MlflowRecorder? Of(RunConfig config, RunFolder folder, bool isResumed, Action<string> warn)
    {
        if (config.Mlflow is not { } section)
        {
            return null;
        }

        var hashes = JsonFile.ReadObject(folder.ManifestPath)["data"]?.AsObject().ToDictionary(static d => d.Key, static d => d.Value!.ToString()) ?? [];
        return new MlflowRecorder(new MlflowRun(config, Path.Combine(folder.FolderPath, StateName), isResumed, hashes), MlflowSettings.Of(section), warn);
    }

    /// <summary>Takes a line of metrics.jsonl.</summary>
    internal void Add(JsonObject line)
    {
        var (step, time) = (line["step"]!.GetValue<long>(), DateTimeOffset.UtcNow.ToUnixTimeMilliseconds());
        foreach (var (name, value) in line.Where(static p => p.Key != "step"))
        {
            if (value is JsonValue number && number.GetValueKind() == JsonValueKind.Number)
            {
                _ = _metrics.Writer.TryWrite(new MlflowMetric(MlflowRun.Named(name), number.GetValue<double>(), step, time));
            }
            else if (value is null && name is "loss" or "grad_norm" or "eval_loss")
            {
                _ = _metrics.Writer.TryWrite(new MlflowMetric(name, double.NaN, step, time));
            }
        }
    }

    /// <summary>Passes on warnings of the work in the background.</summary>
    internal void Tell()
    {
        while (_warnings.TryDequeue(out var warning))
        {
            _warn(warning);
        }
    }

    /// <summary>Says how the run ended, and what is uploaded.</summary>
    /// <param name="status">FINISHED or KILLED.</param>
    /// <param name="files">Files by the name that they get.</param>
    internal void End(string status, IReadOnlyList<(string Name, string Path)> files) => (_status, _files) = (status, files);

    /// <summary>Sends what is left, for a while.</summary>
    public void Dispose()
    {
        _metrics.Writer.Complete();
        _isEnding.SetResult();
        _stop.CancelAfter(_settings.EndWait);
        _work.GetAwaiter().GetResult();
        _client.Dispose();
        _stop.Dispose();
        Tell();
    }

    private async Task Work()
    {
        var waiting = new List<MlflowMetric>();
        try
        {
            await Persist(() => _run.Begin(_client, _stop.Token)).ConfigureAwait(false);
            while (await _metrics.Reader.WaitToReadAsync(_stop.Token).ConfigureAwait(false))
            {
                _ = await Task.WhenAny(_isEnding.Task, Task.Delay(_settings.Collect, _stop.Token)).ConfigureAwait(false);
                while (waiting.Count < MlflowClient.MostMetrics && _metrics.Reader.TryRead(out var metric))
                {
                    waiting.Add(metric);
                }

                await Persist(() => _run.Send(_client, waiting, _stop.Token)).ConfigureAwait(false);

                // Of the last step more may follow: the rest of a line that a batch had no room for, or an evaluation.
                _run.Sent(_settings.Server, waiting[^1].Step - 1);
                waiting.Clear();
            }

            await Persist(() => _run.End(_client, _status, _files, _stop.Token)).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            _warnings.Enqueue($"MLflow at {Name}: the server did not take the last of the run in time; metrics.jsonl has all of it.");
        }
        catch (MlflowRefusedException e)
        {
            _warnings.Enqueue($"MLflow at {Name} refuses, and the run is recorded in its folder only: {e.Message}.");
        }
        catch (Exception e) when (e is IOException or InvalidDataException or InvalidOperationException or NullReferenceException or JsonException)
        {
            _warnings.Enqueue($"MLflow at {Name}: the run is recorded in its folder only: {e.Message.TrimEnd('.')}.");
        }
    }

    private string Name => _settings.Server.GetLeftPart(UriPartial.Path).TrimEnd('/');

    // Until the server is there again, or the end has waited long enough.
    private async Task Persist(Func<Task> work)
    {
        while (true)
        {
            try
            {
                await work().ConfigureAwait(false);
                return;
            }
            catch (MlflowAwayException e)
            {
                if (!_isTold)
                {
                    _isTold = true;
                    _warnings.Enqueue($"MLflow at {Name} cannot be reached ({e.Message}); the run goes on, and its metrics are sent when the server is there.");
                }

                if (_isEnding.Task.IsCompleted)
                {
                    throw new OperationCanceledException();
                }

                _ = await Task.WhenAny(_isEnding.Task, Task.Delay(_settings.Pause, _stop.Token)).ConfigureAwait(false);
            }
        }
    }
}
