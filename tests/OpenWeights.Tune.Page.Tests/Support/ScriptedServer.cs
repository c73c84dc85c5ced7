using System.Collections.Concurrent;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using OpenWeights.Tune.Server.Page;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>Serves the page as the real server does, and answers in OpenAI's shape what a test has scripted, in pieces that end anywhere.</summary>
internal sealed class ScriptedServer : IAsyncDisposable
{
    private static readonly int[] s_pieces = [1, 7, 2, 19, 3, 64, 5, 11];
    private readonly WebApplication _app;

    private ScriptedServer(WebApplication app) => _app = app;

    internal string Url { get; private set; } = "";

    /// <summary>Answers a request; what a test asks of it.</summary>
    internal Func<JsonObject, Script> Answer { get; set; } = static _ => Script.Of("Hello", ".");

    /// <summary>The entries of /v1/models.</summary>
    internal JsonArray Models { get; set; } = [new JsonObject { ["id"] = "base", ["object"] = "model" }, new JsonObject { ["id"] = "mine", ["object"] = "model", ["parent"] = "base" }];

    /// <summary>The key without which the API answers 401; null for none.</summary>
    internal string? Key { get; set; }

    /// <summary>The bodies of chat requests, in the order in which they came.</summary>
    internal ConcurrentQueue<JsonObject> Requests { get; } = [];

    /// <summary>Ends when a client has gone away before its answer was whole.</summary>
    internal TaskCompletionSource Aborted { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    internal static async Task<ScriptedServer> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        _ = builder.Logging.ClearProviders();
        _ = builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var server = new ScriptedServer(app);
        _ = app.MapGet("/", static context => ServePage(context));
        _ = app.MapGet("/v1/models", context => server.Allowed(context) ? context.Response.WriteAsJsonAsync(new JsonObject { ["object"] = "list", ["data"] = server.Models.DeepClone() }) : Deny(context));
        _ = app.MapPost("/v1/chat/completions", context => server.Allowed(context) ? server.Chat(context) : Deny(context));
        await app.StartAsync();
        server.Url = app.Urls.First();
        return server;
    }

    public async ValueTask DisposeAsync() => await _app.DisposeAsync();

    private static Task ServePage(HttpContext context)
    {
        context.Response.ContentType = "text/html; charset=utf-8";
        context.Response.Headers.ContentSecurityPolicy = ChatPage.ContentSecurityPolicy;
        return context.Response.WriteAsync(ChatPage.Html);
    }

    private bool Allowed(HttpContext context) => Key is null || context.Request.Headers.Authorization == $"Bearer {Key}";

    private static Task Deny(HttpContext context) => Refuse(context, Script.Refuse(401, "Invalid API key"));

    private static Task Refuse(HttpContext context, Script script)
    {
        context.Response.StatusCode = script.Status;
        context.Response.ContentType = "application/json";
        return context.Response.WriteAsync(script.Parts[0].Text);
    }

    private async Task Chat(HttpContext context)
    {
        var request = (JsonObject)(await JsonNode.ParseAsync(context.Request.Body))!;
        Requests.Enqueue(request);
        var script = Answer(request);
        if (script.Status != 200)
        {
            await Refuse(context, script);
            return;
        }

        context.Response.ContentType = "text/event-stream";
        try
        {
            await Write(script, context);
        }
        catch (OperationCanceledException)
        {
            Aborted.SetResult();
        }
    }

    private static async Task Write(Script script, HttpContext context)
    {
        var next = 0;
        foreach (var (text, gate) in script.Parts)
        {
            if (gate is not null)
            {
                await gate.WaitAsync(context.RequestAborted);
            }

            var bytes = Encoding.UTF8.GetBytes(text).AsMemory();
            while (bytes.Length > 0)
            {
                var length = Math.Min(bytes.Length, s_pieces[next++ % s_pieces.Length]);
                await context.Response.BodyWriter.WriteAsync(bytes[..length], context.RequestAborted);
                _ = await context.Response.BodyWriter.FlushAsync(context.RequestAborted);
                bytes = bytes[length..];
            }
        }
    }
}
