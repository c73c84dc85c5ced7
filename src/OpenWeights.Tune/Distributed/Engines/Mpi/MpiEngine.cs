using System.Runtime.InteropServices;
using System.Text;
using OpenWeights.Tune.Distributed.Channel;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed.Engines.Mpi;

/// <summary>
/// Moves tensors between CPUs by MPI. MPI only carries bytes: sums are added here in the order of ranks, so that they are the same bits under
/// any MPI, and bfloat16, which MPI does not know, is moved like any other dtype.
/// </summary>
internal sealed unsafe class MpiEngine : ICollectives
{
    private const int TextBytes = 1 << 12;

    private readonly MpiThread _thread;
    private readonly MpiGroup _group;
    private readonly RankActivity _activity;
    private readonly RankLimits _limits;

    private MpiEngine(MpiLibrary mpi, MpiThread thread, RankActivity activity, RankLimits limits) =>
        (_thread, _group, _activity, _limits, Name) = (thread, new MpiGroup(mpi, thread.Rank, thread.Size), activity, limits, mpi.Name);

    /// <inheritdoc/>
    public int Rank => _group.Rank;

    /// <inheritdoc/>
    public int Size => _group.Size;

    /// <inheritdoc/>
    public string Name { get; }

    /// <summary>Tells of ranks that failed, once there is one.</summary>
    internal RankChannel? Channel { get; set; }

    /// <summary>Loads MPI and begins it, with all other ranks.</summary>
    /// <param name="environment">What this process was started as.</param>
    /// <param name="activity">Counts operations.</param>
    /// <param name="limits">How long to wait.</param>
    /// <exception cref="RankFailedException">There is no MPI, or it sees other ranks.</exception>
    internal static MpiEngine Start(RankEnvironment environment, RankActivity activity, RankLimits limits)
    {
        var mpi = MpiLibrary.Load(Environment.GetEnvironmentVariable);
        var thread = new MpiThread(mpi, limits.Start);
        if (thread.Size != environment.Size || thread.Rank != environment.Rank)
        {
            thread.End(new CancellationToken(canceled: true));
            thread.Dispose();
            throw new RankFailedException(
                $"{environment.Source} say rank {environment.Rank} of {environment.Size}, but {mpi.Name} says rank {thread.Rank} of {thread.Size}: start ranks on CPUs with `owt launch`, or with the mpirun of the MPI that is loaded ({MpiLibrary.PathVariable} chooses another).");
        }

        return new MpiEngine(mpi, thread, activity, limits);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginAllReduceSum(Tensor values)
    {
        RankTensors.RequireSum(values);
        return Begin("all-reduce", values, MpiSum.ForAll(_group, values.dtype, DataPointer.Of(values), RankTensors.Bytes(values), (int)values.element_size()), values);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginReduceScatterSum(Tensor values, Tensor part)
    {
        RankTensors.RequireSum(values);
        RankTensors.RequireParts(values, part, Size);
        return Begin("reduce-scatter", values, MpiSum.Scattered(_group, values.dtype, DataPointer.Of(values), DataPointer.Of(part), RankTensors.Bytes(part)), values, part);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginAllGather(Tensor part, Tensor values)
    {
        RankTensors.RequireParts(values, part, Size);
        return Begin("all-gather", values, new MpiAllGather(_group, DataPointer.Of(part), DataPointer.Of(values), RankTensors.Bytes(part)), values, part);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginBroadcast(Tensor values, int root)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)root, (uint)Size, nameof(root));
        return Begin($"broadcast from rank {root}", values, new MpiBroadcast(_group, DataPointer.Of(values), RankTensors.Bytes(values), root), values);
    }

    /// <inheritdoc/>
    public IPendingCollective BeginAllToAll(Tensor sent, Tensor received)
    {
        RankTensors.RequireAllToAll(sent, received, Size);
        return Begin("all-to-all", sent, new MpiAllToAll(_group, DataPointer.Of(sent), DataPointer.Of(received), RankTensors.Bytes(sent) / Size), sent, received);
    }

    /// <summary>Gives all ranks a text of rank 0, before there is a channel.</summary>
    /// <param name="text">Of rank 0: at most 4 KiB in UTF-8.</param>
    internal string BroadcastText(string text)
    {
        var bytes = (byte*)NativeMemory.AllocZeroed(TextBytes);
        try
        {
            if (Rank == 0)
            {
                _ = Encoding.UTF8.GetBytes(text, new Span<byte>(bytes, TextBytes - 1));
            }

            new Pending(this, "a text of rank 0", 0, new MpiPending(new MpiBroadcast(_group, (nint)bytes, TextBytes, 0), "a text of rank 0"), []).Give().Wait();
            return Marshal.PtrToStringUTF8((nint)bytes) ?? "";
        }
        finally
        {
            NativeMemory.Free(bytes);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The others must not wait for this rank, nor this one for them where they fail.
        Channel?.Leave();
        _thread.End(Channel?.Failed ?? CancellationToken.None);
        _thread.Dispose();
    }

    // A rank that died is known by its name a moment later, and one that does something else once all have said what they do.
    private void WaitForCause(long number)
    {
        if (Channel is { } channel)
        {
            using var waiting = number == 0 ? null : _activity.Wait(number);
            _ = channel.Failed.WaitHandle.WaitOne((3 * _limits.Heartbeat) + TimeSpan.FromSeconds(2));
            channel.ThrowIfFailed();
        }
    }

    private Pending Begin(string what, Tensor described, MpiOperation operation, params Tensor[] kept)
    {
        if (described.device_type != TorchSharp.DeviceType.CPU)
        {
            throw new ArgumentException($"{Name} moves tensors of CPUs, not of {described.device}", nameof(described));
        }

        Channel?.ThrowIfFailed();
        var label = $"{what} of {described.numel()} {described.dtype}";
        return new Pending(this, label, _activity.Begin(label), new MpiPending(operation, label), kept).Give();
    }

    private sealed class Pending(MpiEngine engine, string label, long number, MpiPending pending, Tensor[] kept) : IPendingCollective
    {
        internal Pending Give()
        {
            engine._thread.Give(pending);
            return this;
        }

        public void Wait()
        {
            if (!pending.IsOver)
            {
                WaitLong();
            }

            GC.KeepAlive(kept);
            if (pending.Failure is { } failure)
            {
                engine.WaitForCause(number);
                throw new RankFailedException($"{engine.Channel?.Name(engine.Rank) ?? $"rank {engine.Rank}"} failed in {label}: {failure.Message}.", failure);
            }
        }

        private void WaitLong()
        {
            using var waiting = number == 0 ? null : engine._activity.Wait(number);
            if (engine._thread.Wait(pending, engine._limits.Operation, engine.Channel?.Failed ?? CancellationToken.None))
            {
                return;
            }

            engine.Channel?.ThrowIfFailed();
            engine.Channel?.ReportStuck(number);
            throw new RankFailedException($"rank {engine.Rank} waited {engine._limits.Operation.TotalSeconds:0} s for {label}.");
        }
    }
}
