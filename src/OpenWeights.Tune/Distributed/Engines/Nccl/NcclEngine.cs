using OpenWeights.Tune.Distributed.Channel;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed.Engines.Nccl;

/// <summary>
/// Moves tensors between GPUs by NCCL. An operation waits on the GPU for what torch computed before it, and after <see cref="IPendingCollective.Wait"/>
/// torch's later work waits for it; the program itself does not wait. When a rank fails, what waits on the GPU is ended, with undefined
/// values, and the next call throws.
/// </summary>
internal sealed class NcclEngine : ICollectives
{
    // torch's default stream.
    private const nint Default = 0;
    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(200);

    private readonly NcclLibrary _nccl;
    private readonly CudaRuntime? _cuda;
    private readonly RankChannel _channel;
    private readonly RankActivity _activity;
    private readonly RankLimits _limits;
    private readonly IDisposable? _starter;
    private readonly nint _communicator;
    private readonly nint _stream;
    private readonly Lock _gate = new();
    private readonly Queue<Pending> _running = new();
    private readonly Stack<nint> _free = new();
    private readonly ManualResetEventSlim _leaving = new();
    private readonly Thread _watch;
    private bool _isAborted;

    private NcclEngine(NcclLibrary nccl, CudaRuntime? cuda, nint communicator, RankGroupPlace place, RankChannel channel, RankActivity activity, RankLimits limits, IDisposable? starter)
    {
        (_nccl, _cuda, _communicator, Rank, Size, _channel, _activity, _limits, _starter) = (nccl, cuda, communicator, place.Rank, place.Size, channel, activity, limits, starter);
        Name = nccl.Name;
        _stream = cuda is null ? Default : cuda.CreateStream();
        _watch = new Thread(Watch) { IsBackground = true, Name = "nccl watch" };
        _watch.Start();
    }

    /// <inheritdoc/>
    public int Rank { get; }

    /// <inheritdoc/>
    public int Size { get; }

    /// <inheritdoc/>
    public string Name { get; }

    /// <summary>Loads NCCL and begins it, with all other ranks. Torch must be loaded already.</summary>
    /// <param name="channel">Passes on NCCL's identifier, and tells of ranks that failed.</param>
    /// <param name="size">Number of ranks.</param>
    /// <param name="activity">Counts operations.</param>
    /// <param name="limits">How long to wait.</param>
    /// <param name="starter">What else the ranks were joined by; disposed with the engine.</param>
    /// <exception cref="RankFailedException">NCCL is missing or cannot start.</exception>
    internal static NcclEngine Start(RankChannel channel, int size, RankActivity activity, RankLimits limits, IDisposable? starter)
    {
        try
        {
            var nccl = NcclLibrary.Load(Environment.GetEnvironmentVariable);
            RankAgreement.Require(channel, "the version of NCCL", nccl.Name);
            var id = Convert.FromBase64String(channel.Exchange(channel.Rank == 0 ? Convert.ToBase64String(nccl.CreateId()) : "")[0]);
            return new NcclEngine(nccl, CudaRuntime.Find(Environment.GetEnvironmentVariable), Join(nccl, id, channel, size, activity), new RankGroupPlace(channel.Rank, size), channel, activity, limits, starter);
        }
        catch (Exception e) when (e is NcclException or RankFailedException)
        {
            channel.ThrowIfFailed();
            channel.Fail(e.Message);
            throw new RankFailedException(channel.Failure ?? e.Message, e);
        }
    }

    // It waits inside for all ranks.
    private static nint Join(NcclLibrary nccl, byte[] id, RankChannel channel, int size, RankActivity activity)
    {
        using var waiting = activity.Wait(activity.Begin("start of NCCL"));
        return nccl.Join(id, channel.Rank, size);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginAllReduceSum(Tensor values)
    {
        RankTensors.RequireSum(values);
        return Begin("all-reduce", values, stream => _nccl.AllReduce(DataPointer.Of(values), values.numel(), values.dtype, _communicator, stream), values);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginReduceScatterSum(Tensor values, Tensor part)
    {
        RankTensors.RequireSum(values);
        RankTensors.RequireParts(values, part, Size);
        return Begin("reduce-scatter", values, stream => _nccl.ReduceScatter(DataPointer.Of(values), DataPointer.Of(part), part.numel(), values.dtype, _communicator, stream), values, part);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginAllGather(Tensor part, Tensor values)
    {
        RankTensors.RequireParts(values, part, Size);
        return Begin("all-gather", values, stream => _nccl.AllGather(DataPointer.Of(part), DataPointer.Of(values), RankTensors.Bytes(part), _communicator, stream), values, part);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginBroadcast(Tensor values, int root)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)root, (uint)Size, nameof(root));
        return Begin($"broadcast from rank {root}", values, stream => _nccl.Broadcast(DataPointer.Of(values), RankTensors.Bytes(values), root, _communicator, stream), values);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginAllToAll(Tensor sent, Tensor received)
    {
        RankTensors.RequireAllToAll(sent, received, Size);
        return Begin("all-to-all", sent, stream => _nccl.AllToAll(DataPointer.Of(sent), DataPointer.Of(received), RankTensors.Bytes(sent) / Size, Size, _communicator, stream), sent, received);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _channel.Leave();
        _leaving.Set();
        _watch.Join();
        if (!_isAborted)
        {
            _nccl.Destroy(_communicator);
        }

        _starter?.Dispose();
        _leaving.Dispose();
    }

    private Pending Begin(string what, Tensor described, Action<nint> enqueue, params Tensor[] kept)
    {
        _channel.ThrowIfFailed();
        var label = $"{what} of {described.numel()} {described.dtype}";
        var pending = new Pending(this, _activity.Begin(label), kept);
        if (described.numel() == 0)
        {
            return pending;
        }

        try
        {
            if (_cuda is null)
            {
                enqueue(Default);
                return pending;
            }

            lock (_gate)
            {
                Recycle();
                (pending.Before, pending.After) = (Event(), Event());
                _cuda.Record(pending.Before, Default);
                _cuda.Wait(_stream, pending.Before);
                enqueue(_stream);
                _cuda.Record(pending.After, _stream);
                _running.Enqueue(pending);
            }
        }
        catch (NcclException e)
        {
            // A rank that died is known by its name a moment later, and one that does something else once all have said what they do.
            using var waiting = _activity.Wait(pending.Number);
            _ = _channel.Failed.WaitHandle.WaitOne((3 * _limits.Heartbeat) + TimeSpan.FromSeconds(2));
            _channel.ThrowIfFailed();
            _channel.Fail($"{label}: {e.Message}.");
            throw new RankFailedException(_channel.Failure!, e);
        }

        return pending;
    }

    private nint Event() => _free.TryPop(out var free) ? free : _cuda!.CreateEvent();

    // Events of what is done are used again.
    private void Recycle()
    {
        while (_running.TryPeek(out var oldest) && _cuda!.IsDone(oldest.After))
        {
            _ = _running.Dequeue();
            oldest.IsDone = true;
            _free.Push(oldest.Before);
            _free.Push(oldest.After);
        }
    }

    // Looks for errors, and for operations that do not end. A program that waits for its GPU is freed by ending what waits there.
    private void Watch()
    {
        IDisposable? waiting = null;
        long awaited = 0;
        while (!_leaving.Wait(s_look))
        {
            try
            {
                if (_channel.Failure is not null)
                {
                    _isAborted = true;
                    _nccl.Abort(_communicator);
                    return;
                }

                if (_nccl.AsynchronousError(_communicator) is { } error)
                {
                    // A rank that died is known by its name a moment later.
                    _ = _channel.Failed.WaitHandle.WaitOne(TimeSpan.FromSeconds(2));
                    _channel.Fail(error + ".");
                    continue;
                }

                var (oldest, isReady) = Oldest();
                _activity.Reaches(oldest is not null && !isReady ? oldest.Number - 1 : null);
                oldest = isReady ? oldest : null;
                if ((oldest?.Number ?? 0) != awaited)
                {
                    waiting?.Dispose();
                    awaited = oldest?.Number ?? 0;
                    waiting = oldest is null ? null : _activity.Wait(awaited);
                }

                if (oldest is not null && oldest.Age > _limits.Operation)
                {
                    _channel.ReportStuck(oldest.Number);
                }
            }
            catch (Exception e) when (e is NcclException or RankFailedException)
            {
                _channel.Fail(e.Message);
            }
        }

        waiting?.Dispose();
    }

    // The oldest operation that is not done, and whether the GPU has computed what it needs: then it waits for other ranks.
    private (Pending? Oldest, bool IsReady) Oldest()
    {
        if (_cuda is null)
        {
            return (null, false);
        }

        lock (_gate)
        {
            Recycle();
            return _running.TryPeek(out var oldest) ? (oldest, _cuda.IsDone(oldest.Before)) : (null, false);
        }
    }

    private readonly record struct RankGroupPlace(int Rank, int Size);

    private sealed class Pending(NcclEngine engine, long number, Tensor[] kept) : IPendingCollective
    {
        private readonly long _begun = Environment.TickCount64;

        internal long Number => number;

        internal nint Before { get; set; }

        internal nint After { get; set; }

        internal bool IsDone { get; set; }

        internal TimeSpan Age => TimeSpan.FromMilliseconds(Environment.TickCount64 - _begun);

        public void Wait()
        {
            engine._channel.ThrowIfFailed();
            if (After != 0)
            {
                lock (engine._gate)
                {
                    if (!IsDone)
                    {
                        engine._cuda!.Wait(Default, After);
                    }
                }
            }

            GC.KeepAlive(kept);
        }
    }
}
