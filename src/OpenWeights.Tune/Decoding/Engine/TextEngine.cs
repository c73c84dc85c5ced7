using System.Runtime.CompilerServices;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>
/// Generates many texts at a time with one model: texts join and leave between steps, and each can have its own settings, adapter and constraint. What a
/// text becomes does not depend on the others. All members can be called from any thread; the model is used by the engine's own thread alone, so that other
/// work with it goes through <see cref="RunAsync"/>.
/// </summary>
internal sealed class TextEngine : IAsyncDisposable
{
    private readonly EngineLoop _loop;

    /// <summary>Creates an engine and starts its thread.</summary>
    /// <param name="model">The model; the caller keeps ownership, and frees it after the engine.</param>
    /// <param name="adapters">Adapters that texts can name; they become active by row. Null if all texts are answered by the model as it is.</param>
    /// <param name="options">Limits.</param>
    /// <exception cref="ArgumentOutOfRangeException">A limit is out of range.</exception>
    /// <exception cref="InvalidDataException">The model has a head of labels, or attention that looks both ways.</exception>
    public TextEngine(CausalLanguageModel model, AdapterSet? adapters, TextEngineOptions options)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(options);
        options.Require();
        TextLimits.RequireGenerating(model);
        _loop = new EngineLoop(model, adapters, options);
    }

    /// <summary>What the engine does now, and what it did so far.</summary>
    public EngineStatus Status => _loop.Status;

    /// <summary>
    /// Generates a text. It waits for its turn from the first token that is asked for; to cancel, or to dispose of the enumerator, ends it and frees its place
    /// before the next step.
    /// </summary>
    /// <param name="request">The text.</param>
    /// <param name="stop">Cancels.</param>
    /// <returns>The tokens, as they come; the last one has a finish reason.</returns>
    /// <exception cref="EngineBusyException">Too many texts wait, or the engine is draining.</exception>
    /// <exception cref="ArgumentException">The prompt is empty, or a setting is out of range.</exception>
    /// <exception cref="InvalidDataException">The model has no room for a token after the prompt, does not know one of its tokens, or gives scores that are not numbers.</exception>
    /// <exception cref="KeyNotFoundException">No adapter has the name.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    /// <exception cref="ObjectDisposedException">The engine was disposed of.</exception>
    public IAsyncEnumerable<GeneratedToken> GenerateAsync(TextRequest request, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(request.Prompt);
        ArgumentNullException.ThrowIfNull(request.Options);
        return Tokens(request, stop);
    }

    /// <summary>
    /// Runs other work with the model between two steps, such as loading or unloading adapters or computing embeddings. It leaves the model as it is, but for the
    /// adapters of the set: texts of one that is unloaded end with an exception.
    /// </summary>
    /// <typeparam name="T">Type of the result.</typeparam>
    /// <param name="work">The work. Tensors that it returns must not belong to a dispose scope of its own.</param>
    /// <param name="stop">Cancels before the work begins.</param>
    /// <exception cref="ObjectDisposedException">The engine was disposed of.</exception>
    public Task<T> RunAsync<T>(Func<T> work, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(work);
        return _loop.Run(work, stop);
    }

    /// <summary>Takes no new texts and completes when those it has are finished.</summary>
    /// <param name="stop">Cancels the waiting; the engine continues to drain.</param>
    public Task DrainAsync(CancellationToken stop = default) => _loop.Drain().WaitAsync(stop);

    /// <summary>Ends all texts, frees their states and stops the thread.</summary>
    public async ValueTask DisposeAsync() => await _loop.Stop().ConfigureAwait(false);

    private async IAsyncEnumerable<GeneratedToken> Tokens(TextRequest request, [EnumeratorCancellation] CancellationToken stop)
    {
        stop.ThrowIfCancellationRequested();
        var text = _loop.Add(request);
        var isOver = false;
        try
        {
            await foreach (var token in text.Output.Reader.ReadAllAsync(stop).ConfigureAwait(false))
            {
                isOver = token.FinishReason is not null;
                yield return token;
            }

            isOver = true;
        }
        finally
        {
            if (!isOver)
            {
                _loop.Leave(text);
            }
        }
    }
}
