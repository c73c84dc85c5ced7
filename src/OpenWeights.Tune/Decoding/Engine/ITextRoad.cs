namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>A way to compute texts: it holds what later tokens need of the ones before.</summary>
internal interface ITextRoad : IDisposable
{
    /// <summary>Bytes of the states of texts that are generated.</summary>
    long UsedBytes { get; }

    /// <summary>Bytes of the states that are kept for texts with the same beginning.</summary>
    long KeptBytes { get; }

    /// <summary>Number of tokens whose states are held.</summary>
    long CachedTokens { get; }

    /// <summary>Whether there is memory for the prompt of one more text.</summary>
    /// <param name="text">The text.</param>
    bool HasRoom(EngineText text);

    /// <summary>Whether a text should begin now: false if another one that is being read begins alike, so that its states can be shared soon.</summary>
    /// <param name="text">The text.</param>
    bool IsTimely(EngineText text);

    /// <summary>Begins a text, with the states of its beginning where they are held.</summary>
    /// <param name="text">The text; the number of its tokens that are read is set.</param>
    void Begin(EngineText text);

    /// <summary>Makes room for the next tokens of a text; false if there is no memory.</summary>
    /// <param name="text">The text.</param>
    /// <param name="tokens">Number of tokens.</param>
    bool TryReserve(EngineText text, int tokens);

    /// <summary>Reads the next tokens of a text.</summary>
    /// <param name="text">The text; the number of its tokens that are read is set.</param>
    /// <param name="tokens">Number of tokens, at least 1; more are read where the text cannot be read in parts.</param>
    /// <returns>The logits of the next token, valid until the next call; empty if tokens of the text remain unread.</returns>
    Span<float> Read(EngineText text, int tokens);

    /// <summary>Whether a text that has begun can be read together with others.</summary>
    /// <param name="text">The text.</param>
    bool ReadsTogether(EngineText text);

    /// <summary>Reads some texts of one adapter whole (<see cref="ReadsTogether"/>).</summary>
    /// <param name="texts">The texts.</param>
    /// <param name="taker">Takes the logits of each, in order.</param>
    void ReadTogether(IReadOnlyList<EngineText> texts, IScoreTaker taker);

    /// <summary>Reads one token of each of some texts, all but whose last tokens are read.</summary>
    /// <param name="texts">The texts.</param>
    /// <param name="taker">Takes the logits of each, in order.</param>
    void Step(IReadOnlyList<EngineText> texts, IScoreTaker taker);

    /// <summary>Ends a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="isWhole">Whether its states are those of the tokens that are read, so that they can be kept.</param>
    void End(EngineText text, bool isWhole);

    /// <summary>Forgets what it knows about the model's modules and of adapters that are no longer loaded.</summary>
    void Renew();
}

/// <summary>Takes the logits of texts.</summary>
internal interface IScoreTaker
{
    /// <summary>Takes the logits of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="scores">The logits; they are modified.</param>
    void Take(EngineText text, Span<float> scores);

    /// <summary>Takes the failure of a text.</summary>
    /// <param name="text">The text.</param>
    /// <param name="failure">The failure.</param>
    void Fail(EngineText text, Exception failure);
}
