using Microsoft.Extensions.AI;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.MicrosoftAI;

/// <summary>
/// Vectors of texts by a model of this process, as Microsoft.Extensions.AI's <see cref="IEmbeddingGenerator{TInput, TEmbedding}"/>. They have length 1. All
/// members can be called from any thread.
/// </summary>
/// <remarks>
/// Of <see cref="EmbeddingGenerationOptions"/>, ModelId names the base or an adapter, and the property <c>input_type</c> of AdditionalProperties may be
/// <c>query</c>, for a model whose queries have a prompt of their own; texts are documents otherwise.
/// </remarks>
public sealed class OpenWeightsEmbeddingGenerator : IEmbeddingGenerator<string, Embedding<float>>
{
    private readonly AnswerService _service;
    private readonly ServedModelUse? _use;
    private readonly string _model;
    private readonly EmbeddingGeneratorMetadata _metadata;

    /// <summary>Creates a generator.</summary>
    /// <param name="service">What computes the vectors; the caller keeps ownership.</param>
    /// <param name="model">Name of the model where options name none: the base or an adapter; null for the base.</param>
    /// <exception cref="AnswerRefusedException">No model has the name.</exception>
    internal OpenWeightsEmbeddingGenerator(AnswerService service, string? model = null)
    {
        ArgumentNullException.ThrowIfNull(service);
        _service = service;
        _model = service.Find(model).Name;
        _metadata = new EmbeddingGeneratorMetadata("openweights", providerUri: null, _model, service.EmbeddingWidth);
    }

    /// <summary>Creates a generator of a model, which has it alone, with other generators and clients of it, until they are disposed.</summary>
    /// <param name="model">The model, with its adapter; the caller keeps ownership.</param>
    public OpenWeightsEmbeddingGenerator(LanguageModel model)
        : this((model ?? throw new ArgumentNullException(nameof(model))).Serve())
    {
    }

    private OpenWeightsEmbeddingGenerator(ServedModelUse use)
        : this(use.Service, use.Name) => _use = use;

    /// <inheritdoc/>
    /// <exception cref="AnswerRefusedException">A text is empty or too long, or no model has the name.</exception>
    /// <exception cref="ArgumentException">An option cannot be followed.</exception>
    public async Task<GeneratedEmbeddings<Embedding<float>>> GenerateAsync(IEnumerable<string> values, EmbeddingGenerationOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(values);
        if (options?.Dimensions is { } wanted && wanted != _service.EmbeddingWidth)
        {
            throw new ArgumentException($"Dimensions is {wanted}; this model's vectors have {_service.EmbeddingWidth} numbers, and cannot be shortened.", nameof(options));
        }

        var model = _service.Find(options?.ModelId ?? _model);
        var isQuery = IsQuery(options);
        var texts = values.Select(text => _service.EncodeForEmbedding(text, model, isQuery)).ToList();
        var created = DateTimeOffset.UtcNow;
        var vectors = texts.Count == 0 ? [] : await _service.EmbedAsync(texts, model.Name, cancellationToken).ConfigureAwait(false);
        var tokens = texts.Sum(static t => (long)t.Length);
        return new GeneratedEmbeddings<Embedding<float>>(vectors.Select(v => new Embedding<float>(v) { ModelId = model.Name, CreatedAt = created }))
        {
            Usage = new UsageDetails { InputTokenCount = tokens, TotalTokenCount = tokens },
        };
    }

    /// <summary>This generator, its <see cref="EmbeddingGeneratorMetadata"/> or its <see cref="AnswerService"/>; null for other types and with a key.</summary>
    /// <param name="serviceType">The type.</param>
    /// <param name="serviceKey">A key; none is known.</param>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(EmbeddingGeneratorMetadata) ? _metadata
            : serviceType == typeof(AnswerService) ? _service
            : serviceType.IsInstanceOfType(this) ? this
            : null;
    }

    /// <summary>Gives the model back; what else computes the vectors is the caller's.</summary>
    public void Dispose() => _use?.Dispose();

    private static bool IsQuery(EmbeddingGenerationOptions? options) => options?.AdditionalProperties?.GetValueOrDefault("input_type")?.ToString() switch
    {
        null or "document" => false,
        "query" => true,
        var other => throw new ArgumentException($"AdditionalProperties: input_type is {other}; it must be query or document.", nameof(options)),
    };
}
