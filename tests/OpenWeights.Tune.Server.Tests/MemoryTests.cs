using System.Net;
using System.Text;
using NUnit.Framework;

namespace OpenWeights.Tune.Server.Tests;

/// <summary>What large requests leave behind, in counters of .NET.</summary>
[TestFixture]
[NonParallelizable]
public sealed class MemoryTests
{
    private const int Megabyte = 1 << 20;
    private const int Words = 300_000;

    [TestCase("/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"", "\"}]}")]
    [TestCase("/v1/completions", "{\"prompt\": \"", "\"}")]
    public async Task Refused_prompts_of_megabytes_leave_no_memory(string path, string before, string after)
    {
        await using var server = await TestServer.StartAsync();
        var body = Encoding.UTF8.GetBytes(before + string.Concat(Enumerable.Repeat("lorem ipsum dolor ", Words)) + after);
        await Refuse();
        var (committed, collections, allocated) = (Committed(), GC.CollectionCount(GC.MaxGeneration), GC.GetTotalAllocatedBytes(precise: true));
        for (var i = 0; i < 6; i++)
        {
            await Refuse();
        }

        Assert.That((GC.GetTotalAllocatedBytes(precise: true) - allocated) / 6, Is.LessThan(18 * body.Length), "a few copies of the text, and few of its tokens");

        // Nothing else makes the server collect what they left.
        Assert.That(() => GC.CollectionCount(GC.MaxGeneration), Is.GreaterThan(collections).After(30_000, 10));
        Assert.That(Committed, Is.LessThan(committed + (96 * Megabyte)).After(30_000, 50));

        async Task Refuse()
        {
            using var response = await server.SendAsync(HttpMethod.Post, path, change: r => r.Content = new ByteArrayContent(body));
            Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.BadRequest));
            Assert.That(await response.Content.ReadAsStringAsync(), Does.Contain("exceeds the available context size"));
        }

        static long Committed() => GC.GetGCMemoryInfo(GCKind.Any).TotalCommittedBytes;
    }
}
