using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>The samples do what they say, with the quickstart's small model.</summary>
internal sealed partial class SampleTests
{
    private static readonly string s_model = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    [Test]
    public void The_first_sample_trains_answers_and_saves()
    {
        using var folder = new TemporaryFolder();
        var said = Run("TrainSample", s_model, folder.Root);
        var losses = Loss().Matches(said).Select(static m => double.Parse(m.Groups[1].Value, CultureInfo.InvariantCulture)).ToList();
        Assert.That(losses, Has.Count.GreaterThan(20));
        Assert.That(losses.TakeLast(5).Average(), Is.LessThan(losses.Take(5).Average() / 2));
        Assert.That(said, Does.Contain("after ").And.Contains(" steps: "));
        Assert.That(File.Exists(folder.At("adapter", "adapter_config.json")));
        Assert.That(new FileInfo(folder.At("model.gguf")).Length, Is.GreaterThan(100_000));
    }

    [Test]
    public void Rows_of_a_source_of_its_own_are_learned()
    {
        var said = Run("OwnDataSample", s_model, Path.Combine(SharedFiles.Root, "samples", "own-data", "tickets.txt"));
        var (before, after) = Number().Matches(said) is [var first, .., var last] ? (Value(first), Value(last)) : throw new InvalidDataException(said);
        Assert.That(after, Is.LessThan(before / 2), said);
    }

    [Test]
    public void A_reward_of_its_own_judges_the_answers_of_every_step()
    {
        var rewards = Reward().Matches(Run("OwnRewardSample", s_model)).Select(Value).ToList();
        Assert.That(rewards, Has.Count.EqualTo(5));
        Assert.That(rewards, Has.All.InRange(0, 1.5));
    }

    [Test]
    public async Task The_server_answers_at_once_and_piece_by_piece()
    {
        using var free = new TcpListener(IPAddress.Loopback, 0);
        free.Start();
        var address = $"http://127.0.0.1:{((IPEndPoint)free.LocalEndpoint).Port}";
        free.Stop();
        using var server = Start("ServeSample", "--model", s_model, "--urls", address);
        try
        {
            using var client = new HttpClient { BaseAddress = new Uri(address) };
            var question = new { text = "Which month is May?", maxTokens = 6 };
            var whole = (await Answer(client, server, question))!["answer"];
            Assert.That(whole, Is.Not.Empty);
            using var pieces = await client.PostAsJsonAsync("/stream", question);
            Assert.That(string.Concat((await pieces.Content.ReadFromJsonAsync<string[]>())!), Is.EqualTo(whole), "greedy answers are the same");
        }
        finally
        {
            server.Kill(entireProcessTree: true);
            await server.WaitForExitAsync();
        }
    }

    // Until the model is loaded, the server does not listen.
    private static async Task<Dictionary<string, string>?> Answer(HttpClient client, Process server, object question)
    {
        for (var watch = Stopwatch.StartNew(); ;)
        {
            try
            {
                using var answer = await client.PostAsJsonAsync("/ask", question);
                return await answer.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<Dictionary<string, string>>();
            }
            catch (HttpRequestException e) when (e.StatusCode is null && watch.Elapsed < TimeSpan.FromMinutes(2))
            {
                Assert.That(server.HasExited, Is.False, () => server.StandardError.ReadToEnd());
                await Task.Delay(100);
            }
        }
    }

    private static string Run(string sample, params string[] arguments)
    {
        using var process = Start(sample, arguments);
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        Assert.That(process.WaitForExit(TimeSpan.FromMinutes(3)), Is.True, "the sample came to no end");
        Assert.That(process.ExitCode, Is.Zero, () => output.Result + error.Result);
        return output.Result;
    }

    private static Process Start(string sample, params string[] arguments) =>
        Process.Start(new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, sample + ".dll"), .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true })!;

    private static double Value(Match match) => double.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture);

    [GeneratedRegex(@"step \d+: loss ([\d.]+)")]
    private static partial Regex Loss();

    [GeneratedRegex(@"reward ([\d.]+)")]
    private static partial Regex Reward();

    [GeneratedRegex(@"(\d+\.\d+)")]
    private static partial Regex Number();
}
