using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Answering;

/// <summary>
/// Answers requests with a model and its adapters, many at a time: chats through the model's template, texts and tokens, with stop texts, reasoning and calls
/// of tools apart; embeddings; adapters that come and go. It knows no protocol. All members can be called from any thread.
/// </summary>
internal sealed class AnswerService : IAsyncDisposable
{
    // A prompt of more contexts than that is not counted.
    private const int MostContexts = 8;

    // Bytes of a character, which can be a token each.
    private const int MostBytes = 4;

    private readonly LoadedModel _loaded;
    private readonly AnswerServiceOptions _options;
    private readonly AdapterSet _adapters;
    private readonly TextEngine _engine;
    private readonly AnswerConstraints _constraints;
    private readonly SemaphoreSlim _changes = new(1);
    private readonly TextVectors _vectors;
    private volatile IReadOnlyList<ServedModel> _models;
    private readonly Dictionary<string, int> _loads = [];

    /// <summary>Creates a service and starts its engine.</summary>
    /// <param name="loaded">The model; the caller keeps ownership, and frees it after the service.</param>
    /// <param name="options">Settings.</param>
    /// <exception cref="InvalidDataException">The model has no tokenizer, or is of a kind that generates no text.</exception>
    public AnswerService(LoadedModel loaded, AnswerServiceOptions options)
    {
        ArgumentNullException.ThrowIfNull(loaded);
        ArgumentNullException.ThrowIfNull(options);
        (_loaded, _options) = (loaded, options);
        Context = ContextLimit.Of(loaded.Model.Config, options.Engine.MaxPositions).Tokens;
        var name = options.Name ?? ModelPath.NameOf(loaded.Folder.FolderPath);
        Base = Served(name, loaded.Folder.FolderPath, null, null, options.ChatTemplate ?? loaded.ChatTemplate);
        _models = [Base];
        _adapters = new AdapterSet(loaded.Model);
        _adapters.UseByRow();
        _constraints = new AnswerConstraints(loaded.Model.VocabularySize);
        _engine = new TextEngine(loaded.Model, _adapters, options.Engine with { Model = options.Engine.Model ?? name });
        _vectors = new TextVectors(loaded, _engine);
    }

    /// <summary>The base model.</summary>
    public ServedModel Base { get; }

    /// <summary>The base model and the adapters, in the order in which they were loaded.</summary>
    public IReadOnlyList<ServedModel> Models => _models;

    /// <summary>Maximum number of tokens of a prompt and its answer.</summary>
    public int Context { get; }

    /// <summary>How texts become vectors.</summary>
    public EmbeddingSettings Embedding => _vectors.Settings;

    /// <summary>Number of numbers of a vector.</summary>
    public int EmbeddingWidth => _loaded.Model.Config.HiddenSize;

    /// <summary>Number of tokens that the model knows.</summary>
    public int VocabularySize => _loaded.Model.VocabularySize;

    /// <summary>Number of answers that can be generated or wait at a time.</summary>
    public int MostAnswers => _options.Engine.MaxRows + _options.Engine.MaxWaiting;

    /// <summary>The architecture's numbers.</summary>
    public DecoderConfig Config => _loaded.Model.Config;

    /// <summary>What the engine does now, and what it did so far.</summary>
    public EngineStatus Status => _engine.Status;

    /// <summary>The model with a name.</summary>
    /// <param name="name">The name; null for the base.</param>
    /// <exception cref="AnswerRefusedException">No model has the name.</exception>
    public ServedModel Find(string? name) => name is null ? Base : _models.FirstOrDefault(m => m.Name == name)
        ?? throw new AnswerRefusedException(RefusalKind.NoSuchModel, $"The model '{name}' does not exist; served are {string.Join(", ", _models.Select(static m => m.Name))}.{Spelling.DidYouMean(name, _models.Select(static m => m.Name))}", "model");

    /// <summary>Checks a request, and makes its prompt.</summary>
    /// <param name="request">The request.</param>
    /// <exception cref="AnswerRefusedException">It cannot be answered; the message says why.</exception>
    public PreparedAnswer Prepare(AnswerRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (new object?[] { request.Messages, request.Text, request.Tokens }.Count(static p => p is not null) != 1)
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, "give one of messages, a text and tokens.");
        }

        var model = Find(request.Model);
        var (prompt, tokens) = PromptOf(model, request);
        RequireRoom(model, tokens);
        return new PreparedAnswer(_engine, model, request, prompt, tokens, OptionsOf(model, request, tokens.Count), _constraints.Of(model, request, prompt));
    }

    /// <summary>Answers a request.</summary>
    /// <param name="request">The request.</param>
    /// <param name="stop">Ends the answer and frees its place.</param>
    /// <returns>The events; the last is an <see cref="AnswerFinished"/>.</returns>
    /// <exception cref="AnswerRefusedException">It cannot be answered; the message says why.</exception>
    /// <exception cref="EngineBusyException">Too many requests wait, or the service is draining.</exception>
    public IAsyncEnumerable<AnswerEvent> AnswerAsync(AnswerRequest request, CancellationToken stop = default) => Prepare(request).GenerateAsync(0, stop);

    /// <summary>The vectors of texts.</summary>
    /// <param name="texts">The tokens of each; none may be empty. <see cref="EncodeForEmbedding"/> makes them.</param>
    /// <param name="model">The model's name; null for the base.</param>
    /// <param name="stop">Cancels before the work begins.</param>
    /// <exception cref="AnswerRefusedException">A text is empty or too long, or no model has the name.</exception>
    public async Task<IReadOnlyList<float[]>> EmbedAsync(IReadOnlyList<int[]> texts, string? model = null, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(texts);
        var served = Find(model);
        foreach (var text in texts)
        {
            RequireText(text);
            if (text.Length > Context)
            {
                throw TooLong($"the input is too large: it has {text.Length} tokens, and the context {Context}.", text.Length, "input");
            }
        }

        return await UseAsync(served, () => _vectors.Of(texts, served.Adapter, stop)).ConfigureAwait(false);
    }

    /// <summary>The tokens of a text for <see cref="EmbedAsync"/>, with the prompt of documents, or of queries, that the model was trained with.</summary>
    /// <param name="text">The text.</param>
    /// <param name="model">The model.</param>
    /// <param name="isQuery">Whether it is a query.</param>
    /// <exception cref="AnswerRefusedException">The text is empty.</exception>
    public int[] EncodeForEmbedding(string text, ServedModel model, bool isQuery = false)
    {
        ArgumentNullException.ThrowIfNull(model);
        var tokens = _vectors.Encode(text, model.Tokenizer, isQuery);
        RequireText(tokens);
        return tokens;
    }

    /// <summary>How likely the model finds each token of a prompt after those before it; nothing is known of the first.</summary>
    /// <param name="prepared">The prompt.</param>
    /// <param name="alternatives">Number of likeliest tokens at each place.</param>
    /// <param name="stop">Cancels before the work begins.</param>
    public async Task<IReadOnlyList<AnswerToken>> ScoreAsync(PreparedAnswer prepared, int alternatives, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(prepared);
        var model = prepared.Model;
        var scores = await UseAsync(model, () => _engine.RunAsync(() => PromptScores.Of(_loaded.Model, prepared.Tokens, alternatives, model.Adapter), stop)).ConfigureAwait(false);
        return [.. scores.Select(model.Texts.Of)];
    }

    /// <summary>Loads an adapter, to be named by requests.</summary>
    /// <param name="name">The name.</param>
    /// <param name="folder">A PEFT folder, a run folder or a checkpoint.</param>
    /// <param name="stop">Cancels before the work begins.</param>
    /// <exception cref="AnswerRefusedException">The name is taken.</exception>
    /// <exception cref="InvalidDataException">The adapter cannot be read, does not fit the model, or cannot be used beside others.</exception>
    public async Task<ServedModel> LoadAdapterAsync(string name, string folder, CancellationToken stop = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        await _changes.WaitAsync(stop).ConfigureAwait(false);
        try
        {
            if (_models.Any(m => m.Name == name))
            {
                throw new AnswerRefusedException(RefusalKind.Invalid, $"The model '{name}' is loaded already.", "lora_name");
            }

            // A name of its own each time: what is cached for an unloaded adapter is not the next one's.
            var load = _loads[name] = _loads.GetValueOrDefault(name) + 1;
            var key = load == 1 ? name : $"{name}#{load}";
            var served = Served(name, folder, Base.Name, key, PeftFolder.ChatTemplate(folder) ?? _options.ChatTemplate ?? _loaded.ChatTemplate);
            _ = await _engine.RunAsync(() => Load(key, folder), stop).ConfigureAwait(false);
            _models = [.. _models, served];
            return served;
        }
        finally
        {
            _ = _changes.Release();
        }
    }

    /// <summary>Unloads an adapter when its running answers are finished; new ones are refused at once.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="stop">Cancels the waiting; the name is gone all the same.</param>
    /// <exception cref="AnswerRefusedException">No adapter has the name.</exception>
    public async Task UnloadAdapterAsync(string name, CancellationToken stop = default)
    {
        await _changes.WaitAsync(stop).ConfigureAwait(false);
        try
        {
            var served = Find(name);
            if (served.Adapter is not { } key)
            {
                throw new AnswerRefusedException(RefusalKind.Invalid, $"'{name}' is the base model, which stays.", "lora_name");
            }

            _models = [.. _models.Where(m => m != served)];
            await served.CloseAsync().WaitAsync(stop).ConfigureAwait(false);
            _ = await _engine.RunAsync(() => Unload(key), stop).ConfigureAwait(false);
        }
        finally
        {
            _ = _changes.Release();
        }
    }

    /// <summary>Takes no new requests and completes when the running ones are finished.</summary>
    /// <param name="stop">Cancels the waiting.</param>
    public Task DrainAsync(CancellationToken stop = default) => _engine.DrainAsync(stop);

    /// <summary>Ends all answers and frees the adapters.</summary>
    public async ValueTask DisposeAsync()
    {
        await _engine.DisposeAsync().ConfigureAwait(false);
        _adapters.Dispose();
        _changes.Dispose();
    }

    private static async Task<T> UseAsync<T>(ServedModel model, Func<Task<T>> work)
    {
        if (!model.TryUse())
        {
            throw new AnswerRefusedException(RefusalKind.NoSuchModel, $"the model {model.Name} has been unloaded.", "model");
        }

        try
        {
            return await work().ConfigureAwait(false);
        }
        finally
        {
            model.Release();
        }
    }

    private bool Load(string key, string folder)
    {
        var adapter = _adapters.Load(key, folder, _options.Warn, _options.AllowsAnyBase);
        if (adapter.Unmixable is { } problem)
        {
            _adapters.Unload(key);
            throw new InvalidDataException($"{folder}: the adapter cannot be used beside others ({problem}); serve it merged: `owt export` writes the merged model.");
        }

        return true;
    }

    private bool Unload(string key)
    {
        _adapters.Unload(key);
        return true;
    }

    private ServedModel Served(string name, string folder, string? parent, string? adapter, string? template)
    {
        var place = _loaded.Folder.FolderPath;
        var valued = NamedTemplates.WithValues(template, place, _options.TemplateValues ?? []);
        var tokenizer = Tokenizer.Load(place);
        if (adapter is not null && AdapterTokenizer.FolderOf(folder, tokenizer.VocabularySize) is { } own)
        {
            // Its own tokens are those of its texts; the rows of them are in the adapter.
            valued ??= tokenizer.ChatTemplateText;
            tokenizer = Tokenizer.Load(own);
        }

        tokenizer = valued is null ? tokenizer : tokenizer.WithChatTemplate(valued);
        return new ServedModel(name, folder, parent, adapter, tokenizer, EndTokens.Of(_loaded.Folder, tokenizer));
    }

    // A prompt of megabytes is refused before its tokens take as much memory again.
    private void RequireNotEndless(ServedModel model, string text)
    {
        var most = Context > int.MaxValue / MostContexts ? int.MaxValue : Context * MostContexts;
        if (text.Length > Context && text.Length > most / MostBytes && model.Tokenizer.HasMoreThan(text, most))
        {
            throw TooLong($"the prompt has more than {most} tokens, which exceeds the available context size ({Context} tokens, with at least one for the answer); shorten it.", most + 1, "messages");
        }
    }

    private (string? Text, IReadOnlyList<int> Tokens) PromptOf(ServedModel model, AnswerRequest request)
    {
        if (request.Messages is { } messages)
        {
            var text = model.Render(messages, request.ToolChoice.Kind == ToolChoiceKind.None ? null : request.Tools, request.TemplateValues);
            RequireNotEndless(model, text);
            return (text, model.Tokenizer.Encode(text, addSpecialTokens: false));
        }

        if (request.Text is not { } given)
        {
            return (null, request.Tokens!);
        }

        RequireNotEndless(model, given);
        return (given, model.Tokenizer.EncodePrompt(given));
    }

    private void RequireRoom(ServedModel model, IReadOnlyList<int> tokens)
    {
        if (tokens.Count == 0)
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, $"the prompt is empty, and {model.Name} puts no token before it to go on from.", "prompt");
        }

        RequireText(tokens);
        if (tokens.Count >= Context)
        {
            throw TooLong($"the prompt has {tokens.Count} tokens, which exceeds the available context size ({Context} tokens, with at least one for the answer); shorten it.", tokens.Count, "messages");
        }
    }

    private void RequireText(IReadOnlyList<int> tokens)
    {
        if (tokens.Count == 0)
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, "the input is empty.", "input");
        }

        if (tokens.Any(t => t < 0 || t >= _loaded.Model.VocabularySize))
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, $"a token of the prompt is not between 0 and {_loaded.Model.VocabularySize - 1}, the model's vocabulary.", "prompt");
        }
    }

    private AnswerRefusedException TooLong(string message, int tokens, string parameter) => new(RefusalKind.TooLong, message, parameter) { PromptTokens = tokens, ContextTokens = Context };

    private GenerationOptions OptionsOf(ServedModel model, AnswerRequest request, int prompt) => request.Options with
    {
        MaxNewTokens = Math.Min(Math.Max(request.MaxNewTokens ?? int.MaxValue, 1), Context - prompt),
        MaxPositions = Context,
        EndTokens = IgnoresEnd(request) ? [] : model.EndTokens,
        LogitBias = IgnoresEnd(request) ? new Dictionary<int, float>([.. request.Options.LogitBias.Where(b => !model.EndTokens.Contains(b.Key)), .. model.EndTokens.Select(static t => KeyValuePair.Create(t, float.NegativeInfinity))]) : request.Options.LogitBias,
    };

    // What is enforced has an end.
    private static bool IgnoresEnd(AnswerRequest request) => request is { IgnoresEnd: true, Format.Kind: AnswerFormatKind.Free } && !(request.Messages is not null && request.ToolChoice.Kind == ToolChoiceKind.Required);
}
