using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.MicrosoftAI;

/// <summary>
/// Chats with a model of this process, as Microsoft.Extensions.AI's <see cref="IChatClient"/>. All members can be called from any thread; requests are
/// answered side by side.
/// </summary>
/// <remarks>
/// Of <see cref="ChatOptions"/>, ModelId names the base or an adapter; a ConversationId is refused, since nothing is kept between requests. Its
/// AdditionalProperties may have min_p, repetition_penalty, top_logprobs, ignore_eos, and chat_template_kwargs (values for the chat template's variables);
/// others are ignored. Its RawRepresentationFactory may give an <see cref="AnswerRequest"/>, to which the other options are added. A setting that is not
/// given has the value that the server has: temperature 1, a new seed each time, as many tokens as the context has room for. The RawRepresentation of an
/// update is the <see cref="AnswerEvent"/> that it was made of, with the probabilities of tokens where top_logprobs asked for them.
/// </remarks>
public sealed class OpenWeightsChatClient : IChatClient
{
    private readonly Func<AnswerRequest, CancellationToken, IAsyncEnumerable<AnswerEvent>> _answer;
    private readonly AnswerService? _service;
    private readonly ServedModelUse? _use;
    private readonly ChatClientMetadata _metadata;

    /// <summary>Creates a client.</summary>
    /// <param name="service">What answers; the caller keeps ownership.</param>
    /// <param name="model">Name of the model that answers where options name none: the base or an adapter; null for the base.</param>
    /// <exception cref="AnswerRefusedException">No model has the name.</exception>
    internal OpenWeightsChatClient(AnswerService service, string? model = null)
        : this((service ?? throw new ArgumentNullException(nameof(service))).AnswerAsync, service.Find(model).Name) => _service = service;

    /// <summary>Creates a client of a model, which has it alone, with other clients and generators of it, until they are disposed.</summary>
    /// <param name="model">The model, with its adapter; the caller keeps ownership.</param>
    /// <exception cref="InvalidDataException">The model generates no text, or its adapter can only be used merged.</exception>
    public OpenWeightsChatClient(LanguageModel model)
        : this((model ?? throw new ArgumentNullException(nameof(model))).Serve())
    {
    }

    private OpenWeightsChatClient(ServedModelUse use)
        : this(use.Service, use.Name) => _use = use;

    internal OpenWeightsChatClient(Func<AnswerRequest, CancellationToken, IAsyncEnumerable<AnswerEvent>> answer, string model)
    {
        _answer = answer;
        _metadata = new ChatClientMetadata("openweights", providerUri: null, model);
    }

    /// <inheritdoc/>
    /// <exception cref="AnswerRefusedException">The request cannot be answered; the message says why.</exception>
    /// <exception cref="ArgumentException">A message or an option has something that this client does not know; the message names it.</exception>
    public Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken);

    /// <inheritdoc/>
    /// <exception cref="AnswerRefusedException">The request cannot be answered; the message says why.</exception>
    /// <exception cref="ArgumentException">A message or an option has something that this client does not know; the message names it.</exception>
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        return Stream(ChatRequests.Of(messages, options, _metadata.DefaultModelId!, this), cancellationToken);
    }

    /// <summary>This client, its <see cref="ChatClientMetadata"/> or its <see cref="AnswerService"/>; null for other types and with a key.</summary>
    /// <param name="serviceType">The type.</param>
    /// <param name="serviceKey">A key; none is known.</param>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? _metadata
            : serviceType == typeof(AnswerService) ? _service
            : serviceType.IsInstanceOfType(this) ? this
            : null;
    }

    /// <summary>Gives the model back; what else answers is the caller's.</summary>
    public void Dispose() => _use?.Dispose();

    private async IAsyncEnumerable<ChatResponseUpdate> Stream(AnswerRequest request, [EnumeratorCancellation] CancellationToken stop)
    {
        var updates = new ChatUpdates(request.Model!);
        await foreach (var happened in _answer(request, stop).ConfigureAwait(false))
        {
            if (updates.Of(happened) is { } update)
            {
                yield return update;
            }
        }
    }
}
