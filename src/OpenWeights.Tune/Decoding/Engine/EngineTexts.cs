using System.Diagnostics;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>The texts that an engine generates. It belongs to the engine's thread, but for <see cref="Status"/>, <see cref="Count"/> and <see cref="WaitFor"/>.</summary>
/// <param name="model">The model.</param>
/// <param name="adapters">The adapters that texts can name, active by row; null if texts cannot name any.</param>
/// <param name="options">Limits.</param>
/// <param name="metrics">The metrics.</param>
internal sealed class EngineTexts(CausalLanguageModel model, AdapterSet? adapters, TextEngineOptions options, EngineMetrics metrics) : IScoreTaker, IDisposable
{
    private readonly EngineRoads _roads = new(model, adapters, options);

    // In the order in which they came.
    private readonly List<EngineText> _running = [];
    private readonly List<EngineText> _stepping = [];
    private volatile EngineStatus _status = new();
    private volatile int _count;
    private double _meanSeconds = 1;

    /// <summary>What the engine does now, and what it did so far, without the waiting texts.</summary>
    internal EngineStatus Status => _status;

    /// <summary>Number of texts.</summary>
    internal int Count => _count;

    /// <summary>After what time a place is likely to be free for one more text, from a second on.</summary>
    /// <param name="waiting">Number of texts that wait.</param>
    internal TimeSpan WaitFor(int waiting) => TimeSpan.FromSeconds(Math.Clamp(Math.Ceiling(Volatile.Read(ref _meanSeconds) * (waiting + 1) / options.MaxRows), 1, 60));

    /// <summary>Lets texts join, reads a part of the prompts that are not read yet, and generates the next token of each other text.</summary>
    /// <param name="next">Gives the first of the waiting texts, if it may begin.</param>
    /// <param name="goBack">Puts a text that lost its states in front of the waiting ones.</param>
    internal void Step(Func<Func<EngineText, bool>, EngineText?> next, Action<EngineText> goBack)
    {
        foreach (var left in _running.FindAll(static t => t.HasLeft))
        {
            End(left, "abort", null);
        }

        Admit(next);
        ReadPrompts(goBack);
        Continue(goBack);
        Note(_status);
    }

    /// <summary>Looks at the adapters again after other work with the model.</summary>
    internal void Renew()
    {
        foreach (var text in _running.FindAll(t => t.Request.Adapter is { } name && (!adapters!.Names.Contains(name) || !ReferenceEquals(adapters[name], t.Adapter))))
        {
            End(text, "error", new InvalidOperationException($"the adapter '{text.Request.Adapter}' was unloaded while the text was generated."));
        }

        _roads.Renew();
        Note(_status);
    }

    /// <summary>Frees all states; no text is generated any more.</summary>
    public void Dispose() => _roads.Dispose();

    /// <summary>Ends all texts, and keeps no states of theirs.</summary>
    /// <param name="reason">Why.</param>
    /// <param name="failure">What those who wait for them get.</param>
    internal void EndAll(string reason, Exception failure)
    {
        foreach (var text in _running.ToList())
        {
            End(text, reason, failure, isWhole: false);
        }
    }

    public void Take(EngineText text, Span<float> scores)
    {
        string? reason;
        text.TellProgress();
        try
        {
            reason = text.Take(scores);
        }
        catch (Exception failure)
        {
            Fail(text, failure);
            return;
        }

        metrics.Took(text, Stopwatch.GetTimestamp());
        _status = _status with { GeneratedTokens = _status.GeneratedTokens + 1 };
        if (reason is not null)
        {
            End(text, reason, null);
        }
    }

    public void Fail(EngineText text, Exception failure) => End(text, "error", failure, isWhole: false);

    private void Admit(Func<Func<EngineText, bool>, EngineText?> next)
    {
        while (_running.Count < options.MaxRows && next(MayBegin) is { } text)
        {
            _running.Add(text);
            if (text.Began == 0)
            {
                text.Began = Stopwatch.GetTimestamp();
                metrics.Began(text);
            }
        }
    }

    private bool MayBegin(EngineText text)
    {
        try
        {
            text.Adapter = text.Request.Adapter is { } name ? adapters![name] : null;
            text.Road = _roads.Of(text);
            return text.Road.HasRoom(text);
        }
        catch (KeyNotFoundException)
        {
            // Unloaded while it waited; it fails where it begins.
            return true;
        }
    }

    private void ReadPrompts(Action<EngineText> goBack)
    {
        var reading = _running.FindAll(static t => !t.HasBegun || t.Unread > 1);
        var left = options.PromptChunk;
        var whole = new List<EngineText>();
        for (var i = 0; i < reading.Count && left > 0; i++)
        {
            var text = reading[i];
            if (!_running.Contains(text) || !TryBegin(text) || text.Unread == 1)
            {
                continue;
            }

            // The texts behind a long one get their part, so that they do not wait for it.
            var tokens = Math.Min(text.Unread, i == reading.Count - 1 || text.Unread <= left ? left : Math.Max(left / 2, 1));
            if (!Reserve(text, tokens, goBack))
            {
                continue;
            }

            left -= tokens;
            if (tokens == text.Unread && text.Road!.ReadsTogether(text))
            {
                whole.Add(text);
            }
            else
            {
                Read(text, tokens);
            }
        }

        ReadWhole(whole);
    }

    private void Read(EngineText text, int tokens) => Attempt(text, () =>
    {
        var scores = text.Road!.Read(text, tokens);
        if (!scores.IsEmpty)
        {
            Take(text, scores);
        }
        else
        {
            text.TellProgress();
        }
    });

    // Short prompts are read together, so that weights are read once for all of them.
    private void ReadWhole(List<EngineText> texts)
    {
        foreach (var same in texts.Where(_running.Contains).GroupBy(static t => (t.Road, t.Adapter)).Select(static g => g.ToList()).ToList())
        {
            try
            {
                same[0].Road!.ReadTogether(same, this);
            }
            catch (Exception) when (same.Count > 1)
            {
                // One by one it shows which of them fails.
                same.FindAll(_running.Contains).ForEach(t => Read(t, t.Unread));
            }
            catch (Exception failure)
            {
                Fail(same[0], failure);
            }
        }
    }

    private bool TryBegin(EngineText text)
    {
        if (text.HasBegun)
        {
            return true;
        }

        if (text.Road?.IsTimely(text) == false)
        {
            return false;
        }

        Attempt(text, () =>
        {
            text.Road = text.Road is { } road ? road : throw new KeyNotFoundException($"no adapter is named '{text.Request.Adapter}' any more.");
            text.Road.Begin(text);
            text.HasBegun = true;
            if (!text.IsKnown)
            {
                (text.IsKnown, text.CachedTokens) = (true, text.Read);
                _status = _status with { PromptTokens = _status.PromptTokens + text.Tokens.Count, CachedPromptTokens = _status.CachedPromptTokens + text.Read };
                text.TellProgress();
            }
        });
        return text.HasBegun;
    }

    // The next token of each text whose others are read.
    private void Continue(Action<EngineText> goBack)
    {
        foreach (var text in _running.FindAll(static t => t is { HasBegun: true, Unread: 1 }))
        {
            _ = _running.Contains(text) && Reserve(text, 1, goBack);
        }

        foreach (var road in _roads.All)
        {
            _stepping.Clear();
            _stepping.AddRange(_running.Where(t => t is { HasBegun: true, Unread: 1 } && ReferenceEquals(t.Road, road)));
            if (_stepping.Count == 0)
            {
                continue;
            }

            _status = _status with { Steps = _status.Steps + 1, Rows = _status.Rows + _stepping.Count };
            try
            {
                road.Step(_stepping, this);
            }
            catch (Exception failure)
            {
                // Nobody knows which of them it was.
                foreach (var text in _stepping.Where(_running.Contains).ToList())
                {
                    Fail(text, failure);
                }
            }
        }
    }

    // Makes room for tokens of a text, at the cost of the youngest ones; false if it is itself the youngest, or alone needs too much.
    private bool Reserve(EngineText text, int tokens, Action<EngineText> goBack)
    {
        while (!text.Road!.TryReserve(text, tokens))
        {
            var youngest = _running.FindLast(t => t.HasBegun && ReferenceEquals(t.Road, text.Road))!;
            if (ReferenceEquals(youngest, text) && _running.TrueForAll(t => ReferenceEquals(t, text) || !t.HasBegun || !ReferenceEquals(t.Road, text.Road)))
            {
                End(text, "error", new InvalidDataException($"the text has {text.Tokens.Count} tokens, and the memory for keys and values is too small for more; let the engine have more of it."));
                return false;
            }

            Leave(youngest);
            goBack(youngest);
            if (ReferenceEquals(youngest, text))
            {
                return false;
            }
        }

        return true;
    }

    private void Leave(EngineText text)
    {
        text.Road!.End(text, isWhole: true);
        (text.HasBegun, text.Read, text.Road) = (false, 0, null);
        _ = _running.Remove(text);
        _status = _status with { Preemptions = _status.Preemptions + 1 };
    }

    private void Attempt(EngineText text, Action work)
    {
        try
        {
            work();
        }
        catch (Exception failure)
        {
            Fail(text, failure);
        }
    }

    private void End(EngineText text, string reason, Exception? failure, bool isWhole = true)
    {
        _ = _running.Remove(text);
        if (text.HasBegun)
        {
            text.HasBegun = false;
            text.Road!.End(text, isWhole);
        }

        metrics.Ended(text, reason);
        if (text.Last > 0 && reason is "stop" or "length")
        {
            Volatile.Write(ref _meanSeconds, (0.9 * _meanSeconds) + (0.1 * Stopwatch.GetElapsedTime(text.Began, text.Last).TotalSeconds));
        }

        Note(_status);
        _ = text.Output.Writer.TryComplete(failure);
    }

    private void Note(EngineStatus status)
    {
        _count = _running.Count;
        _status = status with { Running = _running.Count, CachedTokens = _roads.CachedTokens, UsedBytes = _roads.UsedBytes, KeptBytes = _roads.KeptBytes, MaxBytes = _roads.MaxBytes };
    }
}
