using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Layers;

namespace OpenWeights.Tune.Decoding;

/// <summary>The rows of a batch that generates: a text each, padded on the left to the longest prompt. Rows whose texts have ended leave it.</summary>
internal sealed class TextBatch
{
    /// <summary>Creates a batch of prompts.</summary>
    /// <param name="prompts">Token ids of the prompts.</param>
    /// <param name="options">Settings of the generation.</param>
    /// <param name="from">Where the adapter of each prompt begins; null if it applies to all tokens.</param>
    /// <param name="adapters">Name of each prompt's adapter, where adapters are active by row.</param>
    /// <param name="known">Number of tokens of the first prompt that the cache has.</param>
    internal TextBatch(IReadOnlyList<int[]> prompts, GenerationOptions options, long?[]? from, IReadOnlyList<string?>? adapters, int known)
    {
        var width = prompts.Max(static p => p.Length);
        Texts = [.. prompts.Select((p, i) => new GeneratedText(i, new TokenSampler(options, options.FirstText + i, p)))];
        Padding = [.. prompts.Select(p => width - p.Length)];
        From = from is null ? null : [.. from.Zip(Padding, static (first, empty) => first + empty)];
        Adapters = adapters;
        Next = [.. prompts.Select(p => Enumerable.Repeat(0, width - p.Length).Concat(p).ToArray())];
        Read = Array.ConvertAll(Next, n => new List<int>(n.Take(known)));
        Next[0] = Next[0][known..];
    }

    /// <summary>The text of each row.</summary>
    internal IReadOnlyList<GeneratedText> Texts { get; private set; }

    /// <summary>Number of padding tokens at the start of each row.</summary>
    internal int[] Padding { get; private set; }

    /// <summary>Where the adapter of each row begins, padding included.</summary>
    internal long?[]? From { get; private set; }

    /// <summary>Name of each row's adapter.</summary>
    internal IReadOnlyList<string?>? Adapters { get; private set; }

    /// <summary>The tokens of each row that the model reads next.</summary>
    internal int[][] Next { get; private set; }

    /// <summary>The tokens of each row that the model has read, or reads now.</summary>
    internal List<int>[] Read { get; private set; }

    /// <summary>Whether a text goes on.</summary>
    internal bool IsOpen => Texts.Any(static t => t.Open);

    /// <summary>Largest position of the tokens that are read now.</summary>
    internal long LongestPosition => Read[0].Count - 1 - Padding.Min();

    /// <summary>Counts the next tokens as read.</summary>
    internal void Enter()
    {
        for (var i = 0; i < Read.Length; i++)
        {
            Read[i].AddRange(Next[i]);
        }
    }

    /// <summary>Reads all tokens again.</summary>
    internal void Restart() => Next = Array.ConvertAll(Read, static r => r.ToArray());

    /// <summary>
    /// Takes rows whose texts have ended out of the batch and the cache, once a quarter of them has, or the rest is few enough for <see cref="DecodeStep"/>:
    /// the cache is copied, which is worth it only for several.
    /// </summary>
    /// <param name="cache">The cache of these rows.</param>
    /// <returns>Whether there are fewer rows now.</returns>
    internal bool DropEnded(DecoderCache cache)
    {
        int[] open = [.. Enumerable.Range(0, Texts.Count).Where(i => Texts[i].Open)];
        if (open.Length == 0 || (4 * open.Length > 3 * Texts.Count && (open.Length > DecodeStep.MaxRows || Texts.Count <= DecodeStep.MaxRows)))
        {
            return false;
        }

        cache.Select(open);
        Texts = [.. open.Select(i => Texts[i])];
        Padding = [.. open.Select(i => Padding[i])];
        From = From is null ? null : [.. open.Select(i => From[i])];
        Adapters = Adapters is null ? null : [.. open.Select(i => Adapters[i])];
        Next = [.. open.Select(i => Next[i])];
        Read = [.. open.Select(i => Read[i])];
        return true;
    }
}

/// <summary>A text that is generated.</summary>
/// <param name="index">Its prompt's index.</param>
/// <param name="sampler">Chooses its tokens.</param>
internal sealed class GeneratedText(int index, TokenSampler sampler)
{
    private readonly List<int> _ids = [];
    private readonly List<float> _logProbs = [];

    internal int Index => index;

    internal bool Open { get; private set; } = true;

    internal string Reason { get; private set; } = "length";

    internal bool IsFull { get; private set; }

    internal bool IsFinite { get; private set; } = true;

    internal IReadOnlyList<int> Ids => _ids;

    internal IReadOnlyList<float> LogProbs => _logProbs;

    internal int Take(Span<float> scores, GenerationOptions options)
    {
        var token = sampler.Next(scores);
        IsFinite &= float.IsFinite(scores[token]);
        _ids.Add(token);
        if (options.LogProbs)
        {
            _logProbs.Add(sampler.LogProb);
        }

        if (options.EndTokens.Contains(token))
        {
            Close("stop");
        }

        return token;
    }

    /// <summary>Ends the text if it reaches the maximum length.</summary>
    internal void Fill(int room)
    {
        if (Open && _ids.Count >= room)
        {
            IsFull = true;
            Close("length");
        }
    }

    internal void Close(string reason) => (Open, Reason) = (false, reason);
}
