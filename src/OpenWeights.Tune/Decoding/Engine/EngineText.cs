using System.Threading.Channels;
using OpenWeights.Tune.Adapters;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>A text of an engine. But for <see cref="Output"/> and <see cref="HasLeft"/>, it belongs to the engine's thread.</summary>
/// <param name="request">What was asked for.</param>
/// <param name="limits">Limits of the text.</param>
/// <param name="added">Timestamp at which it was added.</param>
internal sealed class EngineText(TextRequest request, TextLimits limits, long added)
{
    private readonly TokenSampler _sampler = new(request.Options, request.Options.FirstText, request.Prompt);
    private volatile bool _hasLeft;
    private int _told = -1;

    /// <summary>What was asked for.</summary>
    internal TextRequest Request => request;

    /// <summary>Limits of the text.</summary>
    internal TextLimits Limits => limits;

    /// <summary>The generated tokens on their way to whoever asked.</summary>
    internal Channel<GeneratedToken> Output { get; } = Channel.CreateUnbounded<GeneratedToken>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });

    /// <summary>Whether nobody waits for the text any more.</summary>
    internal bool HasLeft
    {
        get => _hasLeft;
        set => _hasLeft = value;
    }

    /// <summary>Prompt and generated tokens.</summary>
    internal List<int> Tokens { get; } = [.. request.Prompt];

    /// <summary>Number of <see cref="Tokens"/> whose states are held.</summary>
    internal int Read { get; set; }

    /// <summary>Number of tokens that must be read before the next one is known.</summary>
    internal int Unread => Tokens.Count - Read;

    /// <summary>Number of generated tokens.</summary>
    internal int Made => Tokens.Count - request.Prompt.Count;

    /// <summary>Number of prompt tokens whose states were held when it began.</summary>
    internal int CachedTokens { get; set; }

    /// <summary>The adapter that answers; null for the base model.</summary>
    internal PeftAdapter? Adapter { get; set; }

    /// <summary>What computes it; null while it waits.</summary>
    internal ITextRoad? Road { get; set; }

    /// <summary>Whether the road holds states of it.</summary>
    internal bool HasBegun { get; set; }

    /// <summary>Whether it began once, and lost its states for lack of memory since.</summary>
    internal bool IsKnown { get; set; }

    /// <summary>Number of virtual tokens ahead of the text.</summary>
    internal int VirtualTokens { get; set; }

    /// <summary>Timestamp at which it was added.</summary>
    internal long Added => added;

    /// <summary>Timestamp at which it began; 0 before.</summary>
    internal long Began { get; set; }

    /// <summary>Timestamp of its first token; 0 before.</summary>
    internal long First { get; set; }

    /// <summary>Timestamp of its last token.</summary>
    internal long Last { get; set; }

    /// <summary>Tells how much of the prompt is read, where that is more than before.</summary>
    internal void TellProgress()
    {
        if (request.Progress is { } progress && Made == 0 && Read > _told)
        {
            _told = Read;
            progress(Read, CachedTokens);
        }
    }

    /// <summary>Chooses the next token, and passes it on.</summary>
    /// <param name="scores">The logits; they are modified.</param>
    /// <returns>Why the text ends with it; null if it does not.</returns>
    internal string? Take(Span<float> scores)
    {
        var token = _sampler.Next(scores, request.Constraint);
        if (!float.IsFinite(scores[token]))
        {
            throw new InvalidDataException("the model gives scores that are not finite numbers, as damaged weights and ones that overflow in their data type do.");
        }

        Tokens.Add(token);
        var reason = request.Options.EndTokens.Contains(token) ? "stop"
            : Made >= request.Options.MaxNewTokens || Tokens.Count + VirtualTokens >= limits.Context.Tokens ? "length"
            : null;
        _ = Output.Writer.TryWrite(new GeneratedToken(token, _sampler.LogProb, _sampler.Alternatives, reason, CachedTokens));
        return reason;
    }
}
