using System.Globalization;
using System.Net;
using NUnit.Framework;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>
/// Mixed requests with clients that go away at random: no wrong answer, no dead place, no memory kept. OWT_LOAD_REQUESTS=10000 makes it the long one.
/// </summary>
[TestFixture]
public sealed class LoadTests
{
    private const int Usual = 300;
    private const int Clients = 12;

    private static readonly string[] s_words = ["January 5", "five", "May", "twelve and a half", "what day is it?", "x y z"];

    [Test]
    public async Task Under_load_every_answer_is_right_and_every_place_is_freed()
    {
        var requests = int.TryParse(Environment.GetEnvironmentVariable("OWT_LOAD_REQUESTS"), CultureInfo.InvariantCulture, out var wanted) ? wanted : Usual;
        await using var server = await TestServer.StartAsync(engine: new Decoding.Engine.TextEngineOptions { MaxRows = 4, MaxWaiting = 1000, MaxCacheBytes = 8 << 20 });
        var expected = new Dictionary<string, string>();
        foreach (var word in s_words)
        {
            expected[word] = await Ask(server, word, 12);
        }

        await Run(server, expected, requests / 2, seed: 1);
        var before = Memory();
        await Run(server, expected, requests / 2, seed: 2);
        var after = Memory();
        TestContext.Out.WriteLine($"{requests} requests; memory {before >> 20} MiB, then {after >> 20} MiB");
        Assert.That(server.Failures, Is.Empty);
        await server.Service.DrainAsync();
        Assert.That(server.Service.Status, Has.Property("Running").EqualTo(0).And.Property("Waiting").EqualTo(0).And.Property("UsedBytes").EqualTo(0));
        if (requests > Usual)
        {
            Assert.That(after, Is.LessThan(before * 1.02));
        }
    }

    private static async Task Run(TestServer server, Dictionary<string, string> expected, int requests, int seed)
    {
        var next = 0;
        await Task.WhenAll(Enumerable.Range(0, Clients).Select(async client =>
        {
            var random = new Random((seed * 1000) + client);
            while (Interlocked.Increment(ref next) <= requests)
            {
                var word = s_words[random.Next(s_words.Length)];
                switch (random.Next(4))
                {
                    case 0:
                        await GoAway(server, word, random.Next(8));
                        break;
                    case 1:
                        _ = await server.AnswerAsync("/v1/embeddings", $"{{\"input\": \"{word}\"}}");
                        break;
                    default:
                        Assert.That(await Ask(server, word, 12), Is.EqualTo(expected[word]));
                        break;
                }
            }
        }));
    }

    private static async Task<string> Ask(TestServer server, string word, int most) =>
        (await server.AnswerAsync("/v1/chat/completions", Request(word, most, isStream: false)))["choices"]![0]!["message"]!["content"]!.ToString();

    private static async Task GoAway(TestServer server, string word, int lines)
    {
        using var response = await server.SendAsync(HttpMethod.Post, "/v1/chat/completions", Request(word, 100, isStream: true));
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.OK));
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        for (var i = 0; i < lines; i++)
        {
            _ = await reader.ReadLineAsync();
        }
    }

    private static string Request(string word, int most, bool isStream) =>
        $$"""{"messages": [{"role": "user", "content": "{{word}}"}], "temperature": 0, "max_tokens": {{most}}, "stream": {{(isStream ? "true" : "false")}}}""";

    private static long Memory()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        return process.WorkingSet64;
    }
}
