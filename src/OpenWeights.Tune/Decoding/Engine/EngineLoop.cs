using System.Diagnostics;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>The thread of an engine, its queue of texts, and work that others ask for.</summary>
internal sealed class EngineLoop : IDisposable
{
    private readonly object _gate = new();
    private readonly LinkedList<EngineText> _waiting = [];
    private readonly Queue<(Action Work, Action Refuse)> _works = [];
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _drained = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CausalLanguageModel _model;
    private readonly AdapterSet? _adapters;
    private readonly TextEngineOptions _options;
    private readonly EngineMetrics _metrics;
    private readonly EngineTexts? _texts;
    private bool _isDraining;
    private bool _isStopping;
    private volatile Known _known;

    internal EngineLoop(CausalLanguageModel model, AdapterSet? adapters, TextEngineOptions options)
    {
        (_model, _adapters, _options) = (model, adapters, options);
        adapters?.UseByRow();
        _known = Look();
        _metrics = new EngineMetrics(options.Model, () => Status);
        _texts = new EngineTexts(model, adapters, options, _metrics);
        new Thread(Run) { IsBackground = true, Name = "OpenWeights.Tune texts" }.Start();
    }

    private EngineTexts Texts => _texts!;

    /// <summary>What the engine does now, and what it did so far.</summary>
    internal EngineStatus Status
    {
        get
        {
            lock (_gate)
            {
                return (_texts?.Status ?? new EngineStatus()) with { Waiting = _waiting.Count };
            }
        }
    }

    /// <summary>Adds a text to the queue.</summary>
    /// <param name="request">The text.</param>
    internal EngineText Add(TextRequest request)
    {
        request.Options.Require();
        var known = _known;
        var context = ContextLimit.Of(_model.Config, _options.MaxPositions);
        var limits = new TextLimits(known.VocabularySize, request.Options.MaxPositions < context.Tokens ? ContextLimit.Of(_model.Config, request.Options.MaxPositions) : context);
        limits.Require(request.Prompt, 0);
        limits.Require(request.Options.LogitBias);
        if (request.Adapter is { } name && !known.Adapters.Contains(name))
        {
            throw new KeyNotFoundException($"no adapter is named '{name}'; loaded are {(known.Adapters.Count == 0 ? "none" : string.Join(", ", known.Adapters))}.");
        }

        var text = new EngineText(request, limits, Stopwatch.GetTimestamp());
        lock (_gate)
        {
            RequireOpen();
            if (_isDraining)
            {
                throw new EngineBusyException("the engine finishes its texts and takes no more.", Texts.WaitFor(_waiting.Count), isDraining: true);
            }

            // A text that can begin at once does not wait.
            if (_waiting.Count >= _options.MaxWaiting + Math.Max(0, _options.MaxRows - Texts.Count))
            {
                throw new EngineBusyException($"{_waiting.Count} texts wait already, and no more may; try again later.", Texts.WaitFor(_waiting.Count), isDraining: false);
            }

            _ = _waiting.AddLast(text);
            Monitor.Pulse(_gate);
        }

        return text;
    }

    /// <summary>Ends a text that nobody waits for any more.</summary>
    internal void Leave(EngineText text)
    {
        lock (_gate)
        {
            text.HasLeft = true;
            if (_waiting.Remove(text))
            {
                _metrics.Ended(text, "abort");
            }

            Monitor.Pulse(_gate);
        }
    }

    /// <summary>Runs other work on the engine's thread.</summary>
    internal Task<T> Run<T>(Func<T> work, CancellationToken stop)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_gate)
        {
            RequireOpen();
            _works.Enqueue((Work, () => done.TrySetException(Disposed())));
            Monitor.Pulse(_gate);
        }

        return done.Task;

        void Work()
        {
            if (stop.IsCancellationRequested)
            {
                _ = done.TrySetCanceled(stop);
                return;
            }

            try
            {
                var result = work();
                Renew();
                _ = done.TrySetResult(result);
            }
            catch (Exception failure)
            {
                Renew();
                _ = done.TrySetException(failure);
            }
        }
    }

    /// <summary>Takes no more texts; completes when those that are there are finished.</summary>
    internal Task Drain()
    {
        lock (_gate)
        {
            _isDraining = true;
            Monitor.Pulse(_gate);
        }

        return _drained.Task;
    }

    /// <summary>Ends all texts and the thread.</summary>
    internal Task Stop()
    {
        lock (_gate)
        {
            _isStopping = true;
            Monitor.Pulse(_gate);
        }

        return _ended.Task;
    }

    /// <summary>Frees what the thread used, at its end.</summary>
    public void Dispose()
    {
        _texts?.Dispose();
        _metrics.Dispose();
    }

    private void Run()
    {
        while (Next() is { } works)
        {
            foreach (var (work, _) in works)
            {
                work();
            }

            try
            {
                Texts.Step(Waiting, Return);
            }
            catch (Exception failure)
            {
                Texts.EndAll("error", failure);
            }
        }

        Close();
    }

    // Waits until there is something to do; null to end.
    private List<(Action Work, Action Refuse)>? Next()
    {
        lock (_gate)
        {
            while (!_isStopping && _works.Count == 0 && _waiting.Count == 0 && Texts.Count == 0)
            {
                if (_isDraining)
                {
                    _ = _drained.TrySetResult();
                }

                _ = Monitor.Wait(_gate);
            }

            if (_isStopping)
            {
                return null;
            }

            List<(Action, Action)> works = [.. _works];
            _works.Clear();
            return works;
        }
    }

    // The first of the waiting texts, if it may begin; it is taken from the queue.
    private EngineText? Waiting(Func<EngineText, bool> mayBegin)
    {
        lock (_gate)
        {
            if (_waiting.First is not { Value: var text } || !mayBegin(text))
            {
                return null;
            }

            _waiting.RemoveFirst();
            return text;
        }
    }

    // A text lost its states and waits again, before all others.
    private void Return(EngineText text)
    {
        lock (_gate)
        {
            _ = _waiting.AddFirst(text);
        }
    }

    // Other work may have changed the adapters, and which of them are active.
    private void Renew()
    {
        var found = Look();
        if (_adapters is null || (_adapters.IsByRow && found.Loaded.SequenceEqual(_known.Loaded)))
        {
            return;
        }

        _adapters.UseByRow();
        _known = found;
        Texts.Renew();
    }

    private Known Look() => new(_model.VocabularySize, _adapters is null ? [] : [.. _adapters.Names.Select(name => (name, _adapters[name]))]);

    private void Close()
    {
        List<EngineText> waiting;
        lock (_gate)
        {
            waiting = [.. _waiting];
            _waiting.Clear();
            while (_works.TryDequeue(out var work))
            {
                work.Refuse();
            }
        }

        foreach (var text in waiting)
        {
            _ = text.Output.Writer.TryComplete(Disposed());
        }

        Texts.EndAll("abort", Disposed());
        Dispose();
        _ = _drained.TrySetResult();
        _ = _ended.TrySetResult();
    }

    private void RequireOpen() => ObjectDisposedException.ThrowIf(_isStopping, typeof(TextEngine));

    private static ObjectDisposedException Disposed() => new(nameof(TextEngine));

    private sealed record Known(int VocabularySize, IReadOnlyList<(string Name, PeftAdapter Adapter)> Loaded)
    {
        internal IReadOnlyList<string> Adapters { get; } = [.. Loaded.Select(static l => l.Name)];
    }
}
