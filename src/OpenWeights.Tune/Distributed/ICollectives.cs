using static TorchSharp.torch;

namespace OpenWeights.Tune.Distributed;

/// <summary>
/// An engine that moves tensors between ranks: MPI on CPUs, NCCL on GPUs. All ranks call the same members in the same order with tensors of the
/// same sizes and dtypes. Tensors are contiguous. What has begun is complete after <see cref="IPendingCollective.Wait"/>; until then its
/// tensors must neither change nor be freed.
/// </summary>
internal interface ICollectives : IDisposable
{
    /// <summary>This rank, from 0.</summary>
    int Rank { get; }

    /// <summary>Number of ranks.</summary>
    int Size { get; }

    /// <summary>The engine with its version, for messages: "Open MPI 4.1.4".</summary>
    string Name { get; }

    /// <summary>Sums a tensor over all ranks, in place. float32, float64 or int64.</summary>
    /// <param name="values">Any shape.</param>
    IPendingCollective BeginAllReduceSum(Tensor values);

    /// <summary>Sums a tensor over all ranks and gives each rank its part of the sum. float32, float64 or int64.</summary>
    /// <param name="values">[size * n]; its contents are undefined afterwards.</param>
    /// <param name="part">[n], part number <see cref="Rank"/> of the sum.</param>
    IPendingCollective BeginReduceScatterSum(Tensor values, Tensor part);

    /// <summary>Joins the parts of all ranks, in the order of ranks. Any dtype.</summary>
    /// <param name="part">[n]; may be a view of its place in <paramref name="values"/>.</param>
    /// <param name="values">[size * n].</param>
    IPendingCollective BeginAllGather(Tensor part, Tensor values);

    /// <summary>Copies a tensor of one rank to all. Any dtype.</summary>
    /// <param name="values">Any shape.</param>
    /// <param name="root">The rank whose values all get.</param>
    IPendingCollective BeginBroadcast(Tensor values, int root);

    /// <summary>Sends part i to rank i, and receives into part i what rank i sends. Any dtype.</summary>
    /// <param name="sent">[size * n].</param>
    /// <param name="received">[size * n].</param>
    IPendingCollective BeginAllToAll(Tensor sent, Tensor received);
}

/// <summary>A collective operation that has begun.</summary>
internal interface IPendingCollective
{
    /// <summary>
    /// Returns when the tensors have their values; on a GPU, when later work on the default stream comes after the operation.
    /// </summary>
    /// <exception cref="RankFailedException">Another rank failed, or did not take part in time.</exception>
    void Wait();
}
