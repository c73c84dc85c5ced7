using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Answering;

/// <summary>A request that was checked, with its prompt; it can be answered several times, for several choices.</summary>
internal sealed class PreparedAnswer
{
    private readonly TextEngine _engine;
    private readonly AnswerRequest _request;
    private readonly GenerationOptions _options;
    private readonly Func<ITokenConstraint?> _constraint;

    internal PreparedAnswer(TextEngine engine, ServedModel model, AnswerRequest request, string? prompt, IReadOnlyList<int> tokens, GenerationOptions options, Func<ITokenConstraint?> constraint)
    {
        (_engine, Model, _request, Prompt, Tokens, _options, _constraint) = (engine, model, request, prompt, tokens, options, constraint);
    }

    /// <summary>The model that answers.</summary>
    public ServedModel Model { get; }

    /// <summary>The prompt as text; null if tokens were given.</summary>
    public string? Prompt { get; }

    /// <summary>The prompt's tokens.</summary>
    public IReadOnlyList<int> Tokens { get; }

    /// <summary>What is added to the logits of tokens; negative infinity for tokens that cannot come.</summary>
    public IReadOnlyDictionary<int, float> LogitBias => _options.LogitBias;

    /// <summary>Generates an answer.</summary>
    /// <param name="choice">Which of several answers to the request it is, counted from 0; each has random numbers of its own.</param>
    /// <param name="stop">Ends it and frees its place.</param>
    /// <returns>The events; the last is an <see cref="AnswerFinished"/>.</returns>
    /// <exception cref="EngineBusyException">Too many requests wait, or the engine is draining.</exception>
    /// <exception cref="AnswerRefusedException">The model was unloaded meanwhile.</exception>
    public IAsyncEnumerable<AnswerEvent> GenerateAsync(int choice = 0, CancellationToken stop = default) => _request.TellsProgress ? EventsWithProgress(choice, stop) : Events(Text(choice), stop);

    // The engine tells of its progress before it gives the first token.
    private async IAsyncEnumerable<AnswerEvent> EventsWithProgress(int choice, [EnumeratorCancellation] CancellationToken stop)
    {
        var (started, events) = (Stopwatch.GetTimestamp(), Channel.CreateUnbounded<AnswerEvent>());
        using var over = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var text = Text(choice) with { Progress = (read, cached) => events.Writer.TryWrite(new AnswerProgress(Tokens.Count, cached, read, Stopwatch.GetElapsedTime(started).TotalSeconds)) };
        var pump = Pump(Events(text, over.Token), events.Writer);
        try
        {
            await foreach (var happened in events.Reader.ReadAllAsync(stop).ConfigureAwait(false))
            {
                yield return happened;
            }
        }
        finally
        {
            await over.CancelAsync().ConfigureAwait(false);
            await pump.ConfigureAwait(false);
        }
    }

    private static async Task Pump(IAsyncEnumerable<AnswerEvent> events, ChannelWriter<AnswerEvent> writer)
    {
        try
        {
            await foreach (var happened in events.ConfigureAwait(false))
            {
                _ = writer.TryWrite(happened);
            }

            _ = writer.TryComplete();
        }
        catch (Exception failure)
        {
            _ = writer.TryComplete(failure);
        }
    }

    private async IAsyncEnumerable<AnswerEvent> Events(TextRequest text, [EnumeratorCancellation] CancellationToken stop)
    {
        if (!Model.TryUse())
        {
            throw new AnswerRefusedException(RefusalKind.NoSuchModel, $"the model {Model.Name} has been unloaded.", "model");
        }

        try
        {
            var parts = new AnswerParts(Model, Parser(), _request, _request.TellsTokens || _options.LogProbs);
            var counts = new Counts();
            string? reason = null;
            await foreach (var token in _engine.GenerateAsync(text, stop).ConfigureAwait(false))
            {
                if (_request.MaxNewTokens == 0)
                {
                    // The engine reads a prompt to make a token after it.
                    counts.Read(token);
                    reason = "length";
                    break;
                }

                counts.Add(token, parts.InReasoning);
                reason = token.FinishReason;
                if (!IsEnd(token))
                {
                    foreach (var delta in parts.Add(token))
                    {
                        yield return _request.TellsTimings ? delta with { SoFar = (counts.Usage(Tokens.Count), counts.Timings) } : delta;
                    }
                }

                if (parts.IsDone)
                {
                    break;
                }
            }

            foreach (var delta in parts.Finish())
            {
                yield return delta;
            }

            var finish = parts.HasCalls && (parts.IsDone || reason != "length") ? FinishReason.ToolCalls : !parts.IsDone && reason == "length" ? FinishReason.Length : FinishReason.Stop;
            yield return new AnswerFinished(finish, counts.Usage(Tokens.Count), counts.Timings) { Stop = parts.Stop };
        }
        finally
        {
            Model.Release();
        }
    }

    // The token that ends an answer has no text of it.
    private bool IsEnd(GeneratedToken token) => token.FinishReason == "stop" && _options.EndTokens.Contains(token.Token);

    private AnswerParser? Parser() => _request is { IsParsed: true, Messages: not null } && Model.Renderer is { } renderer
        ? new AnswerParser(renderer.Reasoning, _request is { Tools: { Count: > 0 }, ToolChoice.Kind: not ToolChoiceKind.None } ? Model.CallFormat : null, Prompt!, _request.Tools)
        : null;

    private TextRequest Text(int choice) => new(Tokens, _options with { FirstText = choice }) { Adapter = Model.Adapter, Constraint = _constraint() };

    private sealed class Counts
    {
        private readonly long _started = Stopwatch.GetTimestamp();
        private long _first;
        private long _last;
        private int _tokens;
        private int _reasoning;
        private int _cached;

        internal AnswerTimings Timings => new(Seconds(_started, _first), Seconds(_first, _last));

        internal void Add(GeneratedToken token, bool isReasoning)
        {
            _last = Stopwatch.GetTimestamp();
            _first = _first == 0 ? _last : _first;
            _tokens++;
            _reasoning += isReasoning ? 1 : 0;
            _cached = token.CachedTokens;
        }

        internal void Read(GeneratedToken token) => (_first, _last, _cached) = (Stopwatch.GetTimestamp(), Stopwatch.GetTimestamp(), token.CachedTokens);

        internal AnswerUsage Usage(int prompt) => new(prompt, _tokens, _cached, _reasoning);

        private static double Seconds(long from, long to) => to == 0 ? 0 : Stopwatch.GetElapsedTime(from, to).TotalSeconds;
    }
}
