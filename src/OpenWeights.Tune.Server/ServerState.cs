using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Server.Protocols.OpenAi;
using OpenWeights.Tune.Server.Safety;

namespace OpenWeights.Tune.Server;

/// <summary>What a server answers with, which is not there while the model loads.</summary>
/// <param name="options">Settings.</param>
/// <param name="report">Receives unexpected failures; null for none.</param>
internal sealed class ServerState(ServerOptions options, Action<Exception>? report = null)
{
    private volatile AnswerService? _service;
    private volatile bool _isDraining;

    /// <summary>Tickets of reports.</summary>
    internal ReportTickets Tickets { get; } = new();

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

    /// <summary>The model that a request asks for by its name, or by the scales of adapters as llama.cpp has them: one adapter as it was trained, or none.</summary>
    /// <param name="name">The name; null for the base.</param>
    /// <param name="scales">The adapters by their numbers in the order in which they were loaded; null where the name says it.</param>
    /// <exception cref="RequestException">The scales are not those of one adapter.</exception>
    internal ServedModel Find(string? name, IReadOnlyList<AdapterScale>? scales)
    {
        if (scales is null)
        {
            return Find(name);
        }

        var adapters = Adapters;
        foreach (var (id, scale) in scales.Select(static s => (s.Id, s.Scale)))
        {
            if (id is not { } number || number < 0 || number >= adapters.Count)
            {
                throw new RequestException($"Invalid 'lora': there is no adapter {(id is { } wrong ? $"{wrong}" : "without an id")}; GET /lora-adapters lists the {adapters.Count} there are.", "lora");
            }

            if (scale is not (0 or 1))
            {
                throw new RequestException("Invalid 'lora': the scale of an adapter is 1, as it was trained, or 0.", "lora");
            }
        }

        var wanted = scales.Where(static s => s.Scale == 1).Select(static s => s.Id!.Value).Distinct().ToList();
        return wanted.Count switch
        {
            0 => Service.Base,
            1 => adapters[wanted[0]],
            _ => throw new RequestException("Invalid 'lora': one adapter answers a request, not several together.", "lora"),
        };
    }

    /// <summary>The adapters in the order in which they were loaded.</summary>
    internal IReadOnlyList<ServedModel> Adapters => [.. Service.Models.Where(static m => m.Parent is not null)];

    /// <summary>Tells of an unexpected failure.</summary>
    internal void Report(Exception failure) => report?.Invoke(failure);

    private static RequestException Unavailable(string message) => new(503, new ErrorFields(message, "unavailable_error") { Code = "unavailable" });
}
