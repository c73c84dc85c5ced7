using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Hub.Tests;

/// <summary>A server that answers as the Hub does for one model, and misbehaves when told to. Its files lie on another host name.</summary>
internal sealed partial class FakeHub : IDisposable
{
    internal const string Commit = "0123456789abcdef0123456789abcdef01234567";
    private readonly HttpListener _listener = new();
    private readonly int _port;

    /// <summary>The host of large files: another name than the Hub's. A machine may have no "localhost", and only Linux always has more loopback addresses.</summary>
    internal static string FileHost { get; } = OperatingSystem.IsLinux() ? "127.0.0.2" : "localhost";

    internal FakeHub()
    {
        using (var socket = new TcpListener(IPAddress.Loopback, 0))
        {
            socket.Start();
            _port = ((IPEndPoint)socket.LocalEndpoint).Port;
        }

        _listener.Prefixes.Add($"http://127.0.0.1:{_port}/");
        _listener.Prefixes.Add($"http://{FileHost}:{_port}/");
        _listener.Start();
        _ = Task.Run(Listen);
    }

    internal Uri Endpoint => new($"http://127.0.0.1:{_port}");

    /// <summary>The files; those above 100 bytes are large ones.</summary>
    internal Dictionary<string, byte[]> Files { get; } = [];

    /// <summary>The requests: host, path, range and authorization.</summary>
    internal ConcurrentQueue<(string Host, string Path, string? Range, string? Authorization)> Requests { get; } = new();

    /// <summary>Looks at each request first, with the number of earlier ones for its path; true where it has answered.</summary>
    internal Func<HttpListenerContext, int, bool>? Misbehave { get; set; }

    internal static string Sha256(byte[] content) => Convert.ToHexStringLower(SHA256.HashData(content));

#pragma warning disable CA5350 // git's own hash
    internal static string GitHash(byte[] content) => Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {content.Length}\0"), .. content]));
#pragma warning restore CA5350

    internal static void Refuse(HttpListenerContext context, int status, string? code = null)
    {
        context.Response.StatusCode = status;
        if (code is not null)
        {
            context.Response.Headers["X-Error-Code"] = code;
        }

        context.Response.Close();
    }

    /// <summary>Sends the head of a whole answer and only a part of its bytes.</summary>
    internal static void Cut(HttpListenerContext context, byte[] content, int sent)
    {
        var (from, to) = Range(context, content.Length);
        Head(context, content.Length, from, to);
        context.Response.OutputStream.Write(content, from, Math.Min(sent, to - from));
        context.Response.OutputStream.Flush();
        context.Response.Abort();
    }

    internal static (int From, int To) Range(HttpListenerContext context, int length)
    {
        var range = context.Request.Headers["Range"]?["bytes=".Length..].Split('-');
        return range is null ? (0, length) : (int.Parse(range[0]), int.Parse(range[1]) + 1);
    }

    internal static void Head(HttpListenerContext context, int length, int from, int to)
    {
        context.Response.ContentLength64 = to - from;
        if (context.Request.Headers["Range"] is not null)
        {
            context.Response.StatusCode = 206;
            context.Response.Headers["Content-Range"] = $"bytes {from}-{to - 1}/{length}";
        }
    }

    public void Dispose() => _listener.Close();

    private async Task Listen()
    {
        while (_listener.IsListening)
        {
            try
            {
                var context = await _listener.GetContextAsync().ConfigureAwait(false);
                _ = Task.Run(() => Answer(context));
            }
            catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
            {
                return;
            }
        }
    }

    private void Answer(HttpListenerContext context)
    {
        try
        {
            var path = context.Request.Url!.AbsolutePath;
            var before = Requests.Count(r => r.Path == path);
            Requests.Enqueue((context.Request.Url.Host, path, context.Request.Headers["Range"], context.Request.Headers["Authorization"]));
            if (Misbehave?.Invoke(context, before) != true)
            {
                Behave(context, path);
            }
        }
        catch (Exception e) when (e is HttpListenerException or IOException or ObjectDisposedException or InvalidOperationException)
        {
            // The other side has gone.
        }
    }

    private void Behave(HttpListenerContext context, string path)
    {
        const string resolve = $"/org/tiny/resolve/{Commit}/";
        if (context.Request.HttpMethod != "GET")
        {
            Receive(context, path);
        }
        else if (DataSet(path) is { } data)
        {
            Send(context, data);
        }
        else if (path == "/api/models/org/tiny/revision/main")
        {
            Send(context, Encoding.UTF8.GetBytes(Listing().ToJsonString()));
        }
        else if (path.StartsWith(resolve, StringComparison.Ordinal) && Files.TryGetValue(path[resolve.Length..], out var content))
        {
            if (content.Length > 100)
            {
                context.Response.Redirect($"http://{FileHost}:{_port}/cdn/{path[resolve.Length..]}");
                context.Response.Close();
                return;
            }

            Send(context, content);
        }
        else if (path.StartsWith("/cdn/", StringComparison.Ordinal))
        {
            Send(context, Files[path["/cdn/".Length..]]);
        }
        else
        {
            Refuse(context, 404, "RepoNotFound");
        }
    }

    private JsonObject Listing() => new()
    {
        ["sha"] = Commit,
        ["cardData"] = new JsonObject { ["license"] = "apache-2.0" },
        ["siblings"] = new JsonArray(
        [
            .. Files.Select(static f => (JsonNode)new JsonObject
            {
                ["rfilename"] = f.Key,
                ["size"] = f.Value.Length,
                ["blobId"] = GitHash(f.Value),
                ["lfs"] = f.Value.Length > 100 ? new JsonObject { ["sha256"] = Sha256(f.Value), ["size"] = f.Value.Length } : null,
            }),
        ]),
    };

    private static void Send(HttpListenerContext context, byte[] content)
    {
        var (from, to) = Range(context, content.Length);
        Head(context, content.Length, from, to);
        context.Response.OutputStream.Write(content, from, to - from);
        context.Response.Close();
    }
}
