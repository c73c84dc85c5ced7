using System.Collections.Concurrent;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Hub.Tests;

/// <content>Data sets, and uploads as huggingface_hub makes them.</content>
internal sealed partial class FakeHub
{
    /// <summary>The files of the data set org/rows, by revision and path: "main data/train.jsonl".</summary>
    internal Dictionary<string, byte[]> Rows { get; } = [];

    /// <summary>Repositories that were created, with whether they are private.</summary>
    internal ConcurrentDictionary<string, bool> Created { get; } = new();

    /// <summary>Large files in the storage, by their hash.</summary>
    internal ConcurrentDictionary<string, byte[]> Stored { get; } = new();

    /// <summary>The files of the last commit.</summary>
    internal ConcurrentDictionary<string, byte[]> Committed { get; } = new();

    /// <summary>Summary of the last commit.</summary>
    internal string? Summary { get; private set; }

    /// <summary>Size of the parts that large files are to be sent in; null for one piece.</summary>
    internal int? Parts { get; init; }

    /// <summary>The token that may write.</summary>
    internal string Writer { get; init; } = "hf_writer";

    private readonly ConcurrentDictionary<string, byte[]> _parts = new();

    private byte[]? DataSet(string path)
    {
        const string listing = "/api/datasets/org/rows/revision/";
        if (path.StartsWith(listing, StringComparison.Ordinal))
        {
            var revision = Uri.UnescapeDataString(path[listing.Length..]);
            var files = Rows.Where(r => r.Key.StartsWith(revision + " ", StringComparison.Ordinal)).ToList();
            return files.Count == 0 ? null : Encoding.UTF8.GetBytes(new JsonObject
            {
                ["sha"] = CommitOf(revision),
                ["siblings"] = new JsonArray([.. files.Select(f => (JsonNode)new JsonObject
                {
                    ["rfilename"] = f.Key[(revision.Length + 1)..],
                    ["size"] = f.Value.Length,
                    ["blobId"] = GitHash(f.Value),
                    ["lfs"] = f.Value.Length > 100 ? new JsonObject { ["sha256"] = Sha256(f.Value), ["size"] = f.Value.Length } : null,
                })]),
            }.ToJsonString());
        }

        const string resolve = "/datasets/org/rows/resolve/";
        if (!path.StartsWith(resolve, StringComparison.Ordinal))
        {
            return null;
        }

        var parts = path[resolve.Length..].Split('/', 2);
        return Rows.FirstOrDefault(r => r.Key.Split(' ', 2) is [var revision, var file] && CommitOf(revision) == parts[0] && file == Uri.UnescapeDataString(parts[1])).Value;
    }

    private static string CommitOf(string revision) => GitHash(Encoding.UTF8.GetBytes(revision));

    private void Receive(HttpListenerContext context, string path)
    {
        using var content = new MemoryStream();
        context.Request.InputStream.CopyTo(content);
        var body = content.ToArray();
        if (path.StartsWith("/storage/", StringComparison.Ordinal))
        {
            Store(context, path["/storage/".Length..], body);
            return;
        }

        if (context.Request.Headers["Authorization"] != $"Bearer {Writer}")
        {
            Refuse(context, 403);
            return;
        }

        var text = Encoding.UTF8.GetString(body);
        JsonObject Json() => JsonNode.Parse(text)!.AsObject();
        switch (path)
        {
            case "/api/repos/create":
                var made = Json();
                if (!Created.TryAdd($"{made["organization"]}/{made["name"]}", made["private"]!.GetValue<bool>()))
                {
                    Refuse(context, 409);
                    return;
                }

                Reply(context, new JsonObject { ["url"] = "made" });
                break;
            case "/api/models/me/mine/preupload/main":
                Reply(context, new JsonObject
                {
                    ["files"] = new JsonArray([.. Json()["files"]!.AsArray().Select(static f => (JsonNode)new JsonObject
                    {
                        ["path"] = f!["path"]!.ToString(),
                        ["uploadMode"] = f["size"]!.GetValue<long>() > 100 ? "lfs" : "regular",
                        ["shouldIgnore"] = f["path"]!.ToString().EndsWith(".tmp", StringComparison.Ordinal),
                    })]),
                });
                break;
            case "/me/mine.git/info/lfs/objects/batch":
                Reply(context, new JsonObject { ["objects"] = new JsonArray([.. Json()["objects"]!.AsArray().Select(o => (JsonNode)Actions(o!["oid"]!.ToString(), o["size"]!.GetValue<int>()))]) });
                break;
            case "/verify":
                var verified = Json();
                if (Stored.TryGetValue(verified["oid"]!.ToString(), out var stored) && stored.Length == verified["size"]!.GetValue<int>())
                {
                    Reply(context, []);
                    return;
                }

                Refuse(context, 404);
                break;
            case var _ when path.StartsWith("/complete/", StringComparison.Ordinal):
                Join(context, path["/complete/".Length..], Json());
                break;
            case "/api/models/me/mine/commit/main":
                Take(context, text);
                break;
            default:
                Refuse(context, 404, "RepoNotFound");
                break;
        }
    }

    private JsonObject Actions(string hash, int size)
    {
        var one = new JsonObject { ["oid"] = hash, ["size"] = size };
        if (Stored.ContainsKey(hash))
        {
            return one;
        }

        var upload = new JsonObject { ["href"] = $"http://{FileHost}:{_port}/storage/{hash}" };
        if (Parts is { } part)
        {
            upload["href"] = $"{Endpoint}complete/{hash}";
            var header = new JsonObject { ["chunk_size"] = $"{part}" };
            for (var i = 1; (i - 1) * part < size; i++)
            {
                header[$"{i:00000}"] = $"http://{FileHost}:{_port}/storage/{hash}/{i}";
            }

            upload["header"] = header;
        }

        one["actions"] = new JsonObject { ["upload"] = upload, ["verify"] = new JsonObject { ["href"] = $"{Endpoint}verify" } };
        return one;
    }

    private void Store(HttpListenerContext context, string name, byte[] body)
    {
        if (name.Contains('/'))
        {
            _parts[name] = body;
            context.Response.Headers["ETag"] = $"\"{Sha256(body)[..8]}\"";
        }
        else if (Sha256(body) == name)
        {
            Stored[name] = body;
        }

        context.Response.Close();
    }

    private void Join(HttpListenerContext context, string hash, JsonObject body)
    {
        var parts = body["parts"]!.AsArray().Select(p => (Content: _parts[$"{hash}/{p!["partNumber"]}"], Tag: p["etag"]!.ToString())).ToList();
        byte[] whole = [.. parts.SelectMany(static p => p.Content)];
        if (Sha256(whole) != hash || parts.Exists(static p => p.Tag != $"\"{Sha256(p.Content)[..8]}\""))
        {
            Refuse(context, 422);
            return;
        }

        Stored[hash] = whole;
        Reply(context, []);
    }

    private void Take(HttpListenerContext context, string lines)
    {
        Committed.Clear();
        foreach (var line in lines.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static l => JsonNode.Parse(l)!))
        {
            var value = line["value"]!;
            switch (line["key"]!.ToString())
            {
                case "header":
                    Summary = value["summary"]!.ToString();
                    break;
                case "file":
                    Committed[value["path"]!.ToString()] = Convert.FromBase64String(value["content"]!.ToString());
                    break;
                default:
                    Committed[value["path"]!.ToString()] = Stored[value["oid"]!.ToString()];
                    break;
            }
        }

        Reply(context, new JsonObject { ["success"] = true, ["commitOid"] = Commit, ["commitUrl"] = $"{Endpoint}me/mine/commit/{Commit}" });
    }

    private static void Reply(HttpListenerContext context, JsonObject answer)
    {
        context.Response.OutputStream.Write(Encoding.UTF8.GetBytes(answer.ToJsonString()));
        context.Response.Close();
    }
}
