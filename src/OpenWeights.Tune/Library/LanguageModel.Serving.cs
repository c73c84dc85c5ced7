using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune;

/// <content>Answers to many at a time.</content>
public sealed partial class LanguageModel
{
    /// <summary>
    /// A service that answers many at a time with the model and its adapter, the same for all who ask for it. Until the last of them gives it back, the model
    /// itself can neither be asked nor changed.
    /// </summary>
    internal ServedModelUse Serve()
    {
        _use.Wait();
        try
        {
            _served ??= NewService();
            _served.Uses++;
            return new ServedModelUse(_served.Service, _served.Name, GiveBack);
        }
        finally
        {
            _ = _use.Release();
        }
    }

    private ServedParts NewService()
    {
        // The service loads adapters of its own, which rows of a batch name.
        var scratch = new ScratchFolder();
        var service = new AnswerService(_loaded, new AnswerServiceOptions { Engine = new TextEngineOptions { MaxPositions = _settings.MaxPositions }, Warn = _warnings.Add, AllowsAnyBase = true });
        var parts = new ServedParts(service, scratch, () =>
        {
            if (_adapter is { } own)
            {
                own.Enabled = true;
            }
        });
        if (_adapter is not { } adapter)
        {
            return parts;
        }

        try
        {
            AdapterTraining.Save(_loaded, adapter, scratch.Within("adapter"));
            adapter.Enabled = false;
            parts.Name = service.LoadAdapterAsync("adapter", scratch.Within("adapter")).GetAwaiter().GetResult().Name;
            return parts;
        }
        catch
        {
            parts.Dispose();
            throw;
        }
    }

    private void GiveBack()
    {
        _use.Wait();
        try
        {
            if (_served is { } served && --served.Uses == 0)
            {
                served.Dispose();
                _served = null;
            }
        }
        finally
        {
            _ = _use.Release();
        }
    }

    private sealed class ServedParts(AnswerService service, ScratchFolder scratch, Action ended) : IDisposable
    {
        internal AnswerService Service => service;

        internal string Name { get; set; } = service.Base.Name;

        internal int Uses { get; set; }

        public void Dispose()
        {
            service.DisposeAsync().AsTask().GetAwaiter().GetResult();
            scratch.Dispose();
            ended();
        }
    }
}

/// <summary>One who uses a model's service, until this is disposed.</summary>
/// <param name="service">The service.</param>
/// <param name="name">Name of the model, or of its adapter, in it.</param>
/// <param name="giveBack">Gives it back.</param>
internal sealed class ServedModelUse(AnswerService service, string name, Action giveBack) : IDisposable
{
    private Action? _giveBack = giveBack;

    /// <summary>The service.</summary>
    internal AnswerService Service => service;

    /// <summary>Name of the model, or of its adapter, in the service.</summary>
    internal string Name => name;

    /// <inheritdoc/>
    public void Dispose() => Interlocked.Exchange(ref _giveBack, null)?.Invoke();
}
