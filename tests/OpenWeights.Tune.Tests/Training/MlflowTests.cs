using System.Text;
using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Recording.Mlflow;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>Recording by an MLflow server, which answers as MLflow 3.17 was recorded to.</summary>
public sealed class MlflowTests
{
    private static readonly MlflowSettings s_hurried = new(new Uri("http://127.0.0.1:9"))
    {
        FirstWait = TimeSpan.FromMilliseconds(1),
        Pause = TimeSpan.FromMilliseconds(20),
        Collect = TimeSpan.FromMilliseconds(1),
        Timeout = TimeSpan.FromSeconds(20),
        EndWait = TimeSpan.FromSeconds(60),
    };

    [Test]
    public void The_stand_in_answers_every_recorded_exchange_as_MLflow_did()
    {
        using var server = new FakeMlflow();
        var recorded = JsonNode.Parse(File.ReadAllText(SharedFiles.Require("fixtures", "mlflow", "exchanges.json")))!["exchanges"]!.AsArray();
        using var http = new HttpClient();
        var ids = new Dictionary<string, string>();
        string Own(string text) => ids.Aggregate(text, static (t, id) => t.Replace(id.Key, id.Value, StringComparison.Ordinal));
        foreach (var exchange in recorded.Where(static e => e!["request"]!["path"]!.ToString().Contains("/api/2.0/mlflow/", StringComparison.Ordinal) && e["request"]!["body"] is not JsonValue))
        {
            var request = exchange!["request"]!;
            using var message = new HttpRequestMessage(new HttpMethod(request["method"]!.ToString()), new Uri(server.Address, Own(request["path"]!.ToString())));
            message.Content = request["body"] is { } body ? new StringContent(Own(body.ToJsonString()), Encoding.UTF8, "application/json") : null;
            using var response = http.Send(message);
            var answer = response.Content.ReadAsStringAsync().Result;
            Assert.That((int)response.StatusCode, Is.EqualTo(exchange["status"]!.GetValue<int>()), $"{exchange["note"]}: {answer}");
            var expected = exchange["answer"] as JsonObject;
            Assert.That((expected is null ? null : JsonNode.Parse(answer))?["error_code"]?.ToString(), Is.EqualTo(expected?["error_code"]?.ToString()), exchange["note"]!.ToString());
            if (expected?["run"]?["info"]?["run_id"]?.ToString() is { } theirs && !ids.ContainsKey(theirs))
            {
                ids[theirs] = JsonNode.Parse(answer)!["run"]!["info"]!["run_id"]!.ToString();
            }
        }

        Assert.That(ids, Has.Count.EqualTo(1));
    }

    [Test]
    public void A_run_is_recorded_with_its_settings_data_metrics_and_files()
    {
        using var server = new FakeMlflow();
        using var folder = new TemporaryFolder();
        var config = Config(folder, server);
        var listener = new SilentListener();
        using (var run = TrainingRun.Prepare(config, listener))
        {
            Assert.That(run.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
        }

        var recorded = server.Runs.Values.Single();
        Assert.That((recorded.Name, recorded.Status, server.Experiments.Single().Key), Is.EqualTo(("run", "FINISHED", "tries")));
        Assert.That(recorded.Params["adapter.r"], Is.EqualTo("4"));
        Assert.That(recorded.Params["training.max_steps"], Is.EqualTo("6"));
        Assert.That(recorded.Params.Count, Is.GreaterThan(100), "more than a batch takes");
        Assert.That(recorded.Tags["team"], Is.EqualTo("search"));
        Assert.That(recorded.DataSets, Is.EqualTo(new[] { "training rows.jsonl", "eval rows.jsonl" }));
        var losses = recorded.Metrics.Where(static m => m.Key == "loss").ToList();
        Assert.That(losses.Select(static m => m.Step), Is.EqualTo(Enumerable.Range(1, 6).Select(static s => (long)s)));
        Assert.That(losses.Select(static m => m.Value), Is.EqualTo(listener.Steps.Select(static s => s.Loss)));
        Assert.That(recorded.Metrics.Where(static m => m.Key == "eval_loss").Select(static m => m.Step), Is.EqualTo(new[] { 3L, 6L }));
        Assert.That(server.Artifacts.Keys.Select(static k => k[(k.IndexOf("/artifacts/", StringComparison.Ordinal) + 11)..]), Is.SupersetOf(new[] { "config.yaml", "report.html", "adapter/adapter_config.json", "adapter/adapter_model.safetensors" }));
        Assert.That(listener.Warnings, Has.None.Contains("MLflow"));
    }

    [Test]
    public void A_run_that_goes_on_is_the_same_run_and_its_steps_are_there_once()
    {
        using var server = new FakeMlflow();
        using var folder = new TemporaryFolder();
        var config = Config(folder, server);
        using var stop = new CancellationTokenSource();
        using (var run = TrainingRun.Prepare(config, new SilentListener { OnStep = s => StopAfter(s, 4, stop) }))
        {
            Assert.That(run.Run(overwrite: false, "test", stop.Token), Is.Null);
        }

        Assert.That(server.Runs.Values.Single().Status, Is.EqualTo("KILLED"));
        using (var run = TrainingRun.Prepare(config, new SilentListener(), new RunOptions(Resume: true)))
        {
            Assert.That(run.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
        }

        var recorded = server.Runs.Values.Single();
        Assert.That(recorded.Status, Is.EqualTo("FINISHED"));
        Assert.That(recorded.Metrics.Where(static m => m.Key == "loss").Select(static m => m.Step), Is.EqualTo(Enumerable.Range(1, 6).Select(static s => (long)s)));
    }

    [Test]
    public void A_server_that_is_away_never_stops_a_run_and_is_told_of()
    {
        using var folder = new TemporaryFolder();
        var config = Config(folder, null);
        var listener = new SilentListener();
        using (var run = TrainingRun.Prepare(config, listener))
        {
            Assert.That(run.Run(overwrite: false, "test", CancellationToken.None), Is.Not.Null);
        }

        Assert.That(File.ReadAllLines(folder.At("run", "metrics.jsonl")), Has.Length.GreaterThanOrEqualTo(6));
        Assert.That(listener.Warnings, Has.Some.Contains("MLflow at http://127.0.0.1:"));
    }

    [Test]
    public void Metrics_wait_for_a_server_that_comes_back_and_go_in_batches_that_it_takes()
    {
        using var server = new FakeMlflow { Away = 7 };
        using var folder = new TemporaryFolder();
        var warnings = new List<string>();
        using (var recorder = new MlflowRecorder(new MlflowRun(Config(folder, server), folder["mlflow.json"], isResumed: false, new Dictionary<string, string>()), s_hurried with { Server = server.Address }, warnings.Add))
        {
            for (var step = 1; step <= 1500; step++)
            {
                recorder.Add(new JsonObject { ["step"] = (long)step, ["loss"] = step == 3 ? null : 1.0 / step, ["logps/chosen!"] = -1.0 * step, ["rows"] = "a text" });
            }

            // The end gives a server that is away no more time than one round of attempts.
            server.Returned.Wait();
            recorder.End("FINISHED", []);
        }

        var recorded = server.Runs.Values.Single();
        Assert.That(recorded.Metrics.Where(static m => m.Key == "loss").Select(static m => m.Step), Is.EqualTo(Enumerable.Range(1, 1500).Select(static s => (long)s)));
        Assert.That(recorded.Metrics.Single(static m => m.Key == "loss" && m.Step == 3).Value, Is.NaN);
        Assert.That(recorded.Metrics.Count(static m => m.Key == "logps/chosen_"), Is.EqualTo(1500));
        Assert.That(server.LargestBatch, Is.LessThanOrEqualTo(1000));
        Assert.That(recorded.Status, Is.EqualTo("FINISHED"));
        Assert.That(warnings.Single(), Does.Contain("cannot be reached").And.Contains("are sent when the server is there"));
    }

    [Test]
    public void A_password_goes_to_the_server_alone_and_an_address_with_one_is_refused()
    {
        using var server = new FakeMlflow { Secret = "Bearer sesame" };
        using var folder = new TemporaryFolder();
        var warnings = new List<string>();
        var settings = s_hurried with { Server = server.Address };
        var config = Config(folder, server);
        MlflowRun Run(string name) => new(config, folder[name], isResumed: false, new Dictionary<string, string>());
        new MlflowRecorder(Run("a.json"), settings, warnings.Add).Dispose();
        Assert.That(warnings.Single(), Does.Contain("access is denied (401)").And.Contains("MLFLOW_TRACKING_TOKEN"));
        Assert.That(server.Runs, Is.Empty);
        new MlflowRecorder(Run("b.json"), settings with { Authorization = new("Bearer", "sesame") }, warnings.Add).Dispose();
        Assert.That(server.Runs, Has.Count.EqualTo(1));
        Assert.That(File.ReadAllText(folder["b.json"]), Does.Not.Contain("sesame"));
        var problems = MlflowSection.Problems(new MlflowSection { TrackingUri = "http://me:secret@host" }).Single().Message;
        Assert.That(problems, Does.Contain("holds a password").And.Not.Contain("secret"));
        Assert.That(MlflowSection.Problems(new MlflowSection { TrackingUri = "sqlite:///x.db" }).Single().Message, Does.Contain("address of a server"));
    }

    private static void StopAfter(StepMetrics step, long last, CancellationTokenSource stop)
    {
        if (step.Step == last)
        {
            stop.Cancel();
        }
    }

    private static RunConfig Config(TemporaryFolder folder, FakeMlflow? server)
    {
        var rows = TinyModel.WriteRows(folder, 20);
        return new RunConfig
        {
            OutputDir = folder["run"],
            Model = new ModelSection { Path = TinyModel.Write(folder), Device = TestDevice.Name, Dtype = "float32" },
            Adapter = new AdapterSection { Rank = 4, LoraAlpha = 8 },
            Data = new DataSection { Train = [new DataSource { Path = rows }], Eval = [new DataSource { Path = rows }], Packing = false },
            Training = new TrainingSection { MaxSteps = 6, MicroBatchSize = 2 },
            Evaluation = new EvaluationSection { EverySteps = 3, GenerateRows = 0 },
            Checkpoint = new CheckpointSection { EverySteps = 2 },
            Mlflow = new MlflowSection { TrackingUri = (server?.Address ?? new Uri($"http://127.0.0.1:{FakeMlflow.FreePort()}")).ToString(), Experiment = "tries", Artifacts = "result", Tags = new Dictionary<string, string> { ["team"] = "search" } },
        };
    }
}
