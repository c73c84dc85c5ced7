using System.ComponentModel;
using System.Diagnostics;
using System.Text.Encodings.Web;
using System.Text.Json.Nodes;
using System.Text.Json;
using System.Text;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Rewards;

/// <summary>
/// A program judges answers: it reads a line of JSON for each from standard input, {"prompt", "answer", "completion", "expected", "row"}, and writes a line for
/// each to standard output, {"reward": 1.0}, with null for one that it does not judge, or {"error": "..."}. It keeps running; one that ends or
/// takes too long is started again. An answer on which it fails is not judged, and told.
/// </summary>
internal sealed class CommandReward(RewardSection section) : IReward, IDisposable
{
    private const int ErrorLines = 5;
    private static readonly JsonSerializerOptions s_readable = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly List<string> _warnings = [];
    private readonly Queue<string> _errors = [];
    private Process? _process;

    /// <inheritdoc/>
    public IReadOnlyList<double?> Score(IReadOnlyList<JudgedAnswer> answers)
    {
        var rewards = new List<double?>();
        var (failed, example) = (0, "");
        foreach (var answer in answers)
        {
            try
            {
                rewards.Add(Ask(answer));
            }
            catch (Exception e) when (e is TrainingFailedException or IOException)
            {
                End();
                rewards.Add(null);
                failed++;
                example = example.Length > 0 ? example : $"{answer.Place}: {e.Message}";
            }
        }

        if (failed == answers.Count && failed > 0)
        {
            throw new TrainingFailedException($"{example} The command of the reward {section.MetricName} failed on all {failed} answers.");
        }

        if (failed > 0)
        {
            _warnings.Add($"{example} The command of the reward {section.MetricName} failed on {failed} of {answers.Count} answers, which are not judged.");
        }

        return rewards;
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> TakeWarnings()
    {
        IReadOnlyList<string> taken = [.. _warnings];
        _warnings.Clear();
        return taken;
    }

    /// <inheritdoc/>
    public void Dispose() => End();

    private double? Ask(JudgedAnswer answer)
    {
        _process ??= Start();
        var line = new JsonObject
        {
            ["prompt"] = answer.Prompt,
            ["answer"] = answer.Answer,
            ["completion"] = answer.Completion,
            ["expected"] = answer.Expected,
            ["row"] = answer.Row.DeepClone(),
        };
        _process.StandardInput.WriteLine(line.ToJsonString(s_readable));
        _process.StandardInput.Flush();
        var reading = _process.StandardOutput.ReadLineAsync();
        if (!reading.Wait(TimeSpan.FromSeconds(section.Timeout)))
        {
            throw new TrainingFailedException($"the program gave no reward within {section.Timeout:0.###} s (the reward's timeout).{Errors()}");
        }

        return Reward(reading.Result ?? throw new TrainingFailedException($"the program ended{(_process.WaitForExit(1000) ? $" with code {_process.ExitCode}" : "")} before it gave a reward.{Errors()}"));
    }

    private static double? Reward(string line)
    {
        JsonNode? node;
        try
        {
            node = JsonNode.Parse(line);
        }
        catch (JsonException e)
        {
            throw new TrainingFailedException($"the program wrote '{line}', which is not JSON; a line such as {{\"reward\": 1.0}} is expected.", e);
        }

        var value = node is JsonObject given ? given["error"] is { } error ? throw new TrainingFailedException($"the program tells: {error}") : given["reward"] : node;
        return value is null ? null
            : value is JsonValue number && number.TryGetValue<double>(out var reward) ? reward
            : throw new TrainingFailedException($"the program wrote '{line}'; a line such as {{\"reward\": 1.0}} is expected.");
    }

    private Process Start()
    {
        var start = new ProcessStartInfo(section.Command[0], section.Command.Skip(1))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardInputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false),
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
            UseShellExecute = false,
        };
        try
        {
            var process = Process.Start(start)!;
            process.ErrorDataReceived += (_, e) => Keep(e.Data);
            process.BeginErrorReadLine();
            return process;
        }
        catch (Win32Exception e)
        {
            throw new TrainingFailedException($"the program {section.Command[0]} cannot be started: {e.Message}", e);
        }
    }

    private void Keep(string? line)
    {
        lock (_errors)
        {
            if (!string.IsNullOrWhiteSpace(line))
            {
                _errors.Enqueue(line);
            }

            if (_errors.Count > ErrorLines)
            {
                _ = _errors.Dequeue();
            }
        }
    }

    private string Errors()
    {
        lock (_errors)
        {
            return _errors.Count == 0 ? "" : $" Its last messages: {string.Join(" / ", _errors)}";
        }
    }

    private void End()
    {
        if (_process is not { } process)
        {
            return;
        }

        _process = null;
        try
        {
            process.StandardInput.Close();
            if (!process.WaitForExit(200))
            {
                process.Kill(entireProcessTree: true);
            }
        }
        catch (Exception e) when (e is InvalidOperationException or IOException or Win32Exception)
        {
            // It has ended meanwhile.
        }

        process.Dispose();
    }
}
