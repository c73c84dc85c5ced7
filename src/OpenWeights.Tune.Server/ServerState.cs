using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Server.Protocols.OpenAi;

namespace OpenWeights.Tune.Server;

/// <summary>What a server answers with, which is not there while the model loads.</summary>
/// <param name="options">Settings.</param>
/// <param name="report">Receives unexpected failures; null for none.</param>
internal sealed class ServerState(ServerOptions options, Action<Exception>? report = null)
{
    private volatile AnswerService? _service;
    private volatile bool _isDraining;

    /// <summary>Whether no new requests are taken.</summary>
    internal bool IsDraining
    {
        get => _isDraining;
        set => _isDraining = value;
    }

    /// <summary>The service.</summary>
    /// <exception cref="RequestException">The model is not loaded yet, or the server is shutting down.</exception>
    internal AnswerService Service => _isDraining ? throw Unavailable("The server is shutting down.")
        : _service ?? throw Unavailable("Loading model");

    /// <summary>Maximum number of choices of a request; more than there are places could never be answered.</summary>
    internal int MaxChoices => Math.Min(options.MaxChoices, Service.MostAnswers);

    internal void Serve(AnswerService service) => _service = service;

    /// <summary>
    /// The model that a request names. Where the base is all there is and no other can come, it answers to every name, as llama.cpp's server does, since many
    /// clients have another name built in.
    /// </summary>
    /// <param name="name">The name; null for the base.</param>
    /// <exception cref="AnswerRefusedException">There are several models, and none has the name.</exception>
    internal ServedModel Find(string? name)
    {
        var service = Service;
        return service.Models.Count == 1 && options.AdaptersBelow is null ? service.Base : service.Find(string.IsNullOrEmpty(name) ? null : name);
    }

    /// <summary>Tells of an unexpected failure.</summary>
    internal void Report(Exception failure) => report?.Invoke(failure);

    private static RequestException Unavailable(string message) => new(503, new ErrorFields(message, "unavailable_error") { Code = "unavailable" });
}
