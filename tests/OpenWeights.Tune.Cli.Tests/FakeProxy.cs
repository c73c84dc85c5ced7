using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>A proxy, behind which there is a Hub with one small model; tunnels to other servers it refuses.</summary>
internal sealed class FakeProxy : IDisposable
{
    internal const string Commit = "0123456789abcdef0123456789abcdef01234567";
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);

    internal FakeProxy()
    {
        _listener.Start();
        _ = Task.Run(Listen);
    }

    internal string Address => $"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}";

    internal Dictionary<string, string> Files { get; } = [];

    /// <summary>The first lines of the requests.</summary>
    internal ConcurrentQueue<string> Requests { get; } = new();

    public void Dispose() => _listener.Dispose();

    private async Task Listen()
    {
        while (true)
        {
            try
            {
                var client = await _listener.AcceptTcpClientAsync().ConfigureAwait(false);
                _ = Task.Run(() => Answer(client));
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
            {
                return;
            }
        }
    }

    private void Answer(TcpClient client)
    {
        using (client)
        {
            using var stream = client.GetStream();
            using var reader = new StreamReader(stream, Encoding.ASCII, leaveOpen: true);
            var request = reader.ReadLine() ?? "";
            while (reader.ReadLine() is { Length: > 0 })
            {
                // The headers say nothing that counts here.
            }

            Requests.Enqueue(request);
            var content = request.StartsWith("GET http://hub.example/", StringComparison.Ordinal) ? Find(request.Split(' ')[1]["http://hub.example".Length..]) : null;
            var body = Encoding.UTF8.GetBytes(content ?? "");
            stream.Write(Encoding.ASCII.GetBytes($"HTTP/1.1 {(content is null ? "403 Forbidden" : "200 OK")}\r\nContent-Length: {body.Length}\r\nConnection: close\r\n\r\n"));
            stream.Write(body);
        }
    }

    private string? Find(string path)
    {
        const string resolve = $"/org/tiny/resolve/{Commit}/";
        return path.StartsWith("/api/models/org/tiny/revision/main", StringComparison.Ordinal) ? Listing()
            : path.StartsWith(resolve, StringComparison.Ordinal) ? Files.GetValueOrDefault(path[resolve.Length..])
            : null;
    }

    private string Listing() => new JsonObject
    {
        ["sha"] = Commit,
        ["cardData"] = new JsonObject { ["license"] = "apache-2.0" },
        ["siblings"] = new JsonArray(
        [
            .. Files.Select(static f => (JsonNode)new JsonObject { ["rfilename"] = f.Key, ["size"] = Encoding.UTF8.GetByteCount(f.Value), ["blobId"] = GitHash(f.Value) }),
        ]),
    }.ToJsonString();

#pragma warning disable CA5350 // git's own hash
    private static string GitHash(string content) => Convert.ToHexStringLower(System.Security.Cryptography.SHA1.HashData(Encoding.UTF8.GetBytes($"blob {Encoding.UTF8.GetByteCount(content)}\0{content}")));
#pragma warning restore CA5350
}
