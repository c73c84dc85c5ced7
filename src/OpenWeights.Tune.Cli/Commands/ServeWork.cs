using System.Net.Sockets;
using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Server;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>What owt serve loads.</summary>
/// <param name="Model">The base model, as given.</param>
/// <param name="Adapters">Adapters with their names.</param>
internal sealed record ServedFiles(string Model, IReadOnlyList<(string Name, string Folder)> Adapters)
{
    /// <summary>Name of the base model; null for its own.</summary>
    public string? Name { get; init; }

    public required string DType { get; init; }

    public required string Device { get; init; }

    public string? Quantization { get; init; }

    public bool AnyBase { get; init; }

    /// <summary>Name or file of a chat template; null for the model's own.</summary>
    public string? ChatTemplate { get; init; }

    public required JsonObject TemplateValues { get; init; }

    public required TextEngineOptions Engine { get; init; }
}

/// <summary>The work of owt serve: listens, loads the model, and drains at the first signal.</summary>
/// <param name="options">Settings of the server.</param>
/// <param name="files">What is loaded.</param>
/// <param name="output">Receives the address and how to try it.</param>
/// <param name="notes">Receives warnings and progress.</param>
internal sealed class ServeWork(ServerOptions options, ServedFiles files, TextWriter output, TextWriter notes)
{
    internal async Task RunAsync(CancellationToken stop)
    {
        var server = new AnswerServer(options, failure => notes.WriteLine($"error: a request failed: {failure}"));
        await using (server.ConfigureAwait(false))
        {
            await StartAsync(server, stop).ConfigureAwait(false);
            notes.WriteLine($"loading {files.Model}");
            using var loaded = Load(out var adapters, stop);
            var service = new AnswerService(loaded, new AnswerServiceOptions
            {
                Name = files.Name,
                ChatTemplate = Template(loaded),
                TemplateValues = files.TemplateValues,
                Engine = files.Engine,
                AllowsAnyBase = files.AnyBase,
                Warn = ModelSession.Warn,
            });
            await using (service.ConfigureAwait(false))
            {
                await LoadAdaptersAsync(service, adapters, stop).ConfigureAwait(false);
                server.Serve(service);
                Tell(service, server.Address);
                Signals.Answer = "finishing the running answers, and taking no new requests";
                await Task.Delay(Timeout.Infinite, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                await server.DrainAsync(CancellationToken.None).ConfigureAwait(false);
                await service.DrainAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    private async Task StartAsync(AnswerServer server, CancellationToken stop)
    {
        try
        {
            await server.StartAsync(stop).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            throw new ConfigException([new ConfigProblem("command line", "--port", $"{options.Host}:{options.Port} cannot be listened on: {e.Message} Choose another --port (0 takes a free one).")]);
        }
    }

    private LoadedModel Load(out IReadOnlyList<(string Name, string Folder)> adapters, CancellationToken stop)
    {
        Devices.UseAllCores();
        var (path, own) = ModelPath.WithAdapter(files.Model);
        adapters = own is null ? files.Adapters : [(Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(files.Model))), own), .. files.Adapters];
        var loaded = ModelLoader.Load(ModelPath.Resolve(path, new DownloadConsole(), stop), Devices.DType(files.DType), Devices.Find(files.Device), QuantizationSettings.Of(files.Quantization), keepsBlocks: files.Quantization is null);
        foreach (var warning in loaded.Warnings)
        {
            ModelSession.Warn(warning);
        }

        loaded.Embedding = adapters.Select(static a => EmbeddingFiles.Of(a.Folder)).FirstOrDefault(static e => e is not null) ?? loaded.Embedding;
        return loaded;
    }

    private string? Template(LoadedModel loaded)
    {
        var folder = loaded.Folder.FolderPath;
        if (files.ChatTemplate is { } wanted)
        {
            try
            {
                return NamedTemplates.Find(wanted, folder);
            }
            catch (ConfigException e)
            {
                throw new ConfigException([.. e.Problems.Select(static p => p with { Place = "command line", Key = "--chat-template" })]);
            }
        }

        if (loaded.ChatTemplate is not null || Tokenizer.Load(folder).ChatTemplateText is not null)
        {
            return null;
        }

        ModelSession.Warn("the model has no chat template; chats are written in ChatML, which it may not know. --chat-template names another.");
        return NamedTemplates.Find("chatml", folder);
    }

    private async Task LoadAdaptersAsync(AnswerService service, IReadOnlyList<(string Name, string Folder)> adapters, CancellationToken stop)
    {
        foreach (var (name, folder) in adapters)
        {
            try
            {
                _ = await service.LoadAdapterAsync(name, folder, stop).ConfigureAwait(false);
            }
            catch (AnswerRefusedException e)
            {
                throw new ConfigException([new ConfigProblem("command line", "--adapter", $"{e.Message} Name adapters with --adapter NAME=DIR, and the base with --name.")]);
            }
        }

        notes.WriteLine($"{service.Base.Name}: {service.Context} tokens of context, {files.Engine.MaxRows} answers at a time; embeddings are {(service.Embedding.Pooling == EmbeddingPooling.Mean ? "the mean over a text" : "of the last token")}");
    }

    private void Tell(AnswerService service, Uri address)
    {
        var key = options.ApiKeys.Count > 0 ? " -H 'Authorization: Bearer KEY'" : "";
        output.WriteLine($"""
            serving {string.Join(", ", service.Models.Select(static m => m.Name))} at {address.ToString().TrimEnd('/')}
            {(options.HasPage ? $"open {address} to chat, or try" : "try")}:
              curl {address}v1/chat/completions{key} -H 'Content-Type: application/json' -d {PrintedJson(service)}
            Ctrl-C stops.
            """);
        output.Flush();
    }

    private static string PrintedJson(AnswerService service) =>
        "'" + new JsonObject { ["model"] = service.Models[^1].Name, ["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = "Hello" }) }.ToJsonString() + "'";
}
