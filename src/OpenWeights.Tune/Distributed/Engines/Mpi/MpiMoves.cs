namespace OpenWeights.Tune.Distributed.Engines.Mpi;

/// <summary>Joins the parts of all ranks.</summary>
/// <param name="group">All ranks.</param>
/// <param name="part">This rank's.</param>
/// <param name="values">All.</param>
/// <param name="bytes">Length of a part.</param>
internal sealed unsafe class MpiAllGather(MpiGroup group, nint part, nint values, long bytes) : MpiOperation(group)
{
    protected override void Start(int tag)
    {
        foreach (var other in Group.Others)
        {
            Transfers.Receive(values + (nint)(other * bytes), bytes, other);
        }

        foreach (var other in Group.Others)
        {
            Transfers.Send(part, bytes, other);
        }

        if (part != values + (nint)(Group.Rank * bytes))
        {
            Buffer.MemoryCopy((void*)part, (void*)(values + (nint)(Group.Rank * bytes)), bytes, bytes);
        }
    }
}

/// <summary>Gives every rank its part of every rank's values.</summary>
/// <param name="group">All ranks.</param>
/// <param name="sent">A part for each rank.</param>
/// <param name="received">A part of each rank.</param>
/// <param name="bytes">Length of a part.</param>
internal sealed unsafe class MpiAllToAll(MpiGroup group, nint sent, nint received, long bytes) : MpiOperation(group)
{
    protected override void Start(int tag)
    {
        foreach (var other in Group.Others)
        {
            Transfers.Receive(received + (nint)(other * bytes), bytes, other);
        }

        foreach (var other in Group.Others)
        {
            Transfers.Send(sent + (nint)(other * bytes), bytes, other);
        }

        var own = (nint)(Group.Rank * bytes);
        Buffer.MemoryCopy((void*)(sent + own), (void*)(received + own), bytes, bytes);
    }
}

/// <summary>
/// Copies one rank's values to all. Of long ones the root sends each rank a part, which that rank sends to the others: no rank sends more than
/// about two times the values.
/// </summary>
/// <param name="group">All ranks.</param>
/// <param name="values">The values.</param>
/// <param name="bytes">Their length.</param>
/// <param name="root">Whose values all get.</param>
internal sealed class MpiBroadcast(MpiGroup group, nint values, long bytes, int root) : MpiOperation(group)
{
    private const int FewBytes = 1 << 15;

    protected override void Start(int tag)
    {
        if (Group.Size == 2 || bytes <= FewBytes)
        {
            if (Group.Rank != root)
            {
                Transfers.Receive(values, bytes, root);
                return;
            }

            foreach (var other in Group.Others)
            {
                Transfers.Send(values, bytes, other);
            }

            return;
        }

        foreach (var other in Group.Others)
        {
            if (Group.Rank == root)
            {
                Send(other, other);
            }
            else if (other == root)
            {
                // This rank's part, for the others; then the root's own.
                Receive(Group.Rank, root, () =>
                {
                    foreach (var next in Group.Others.Where(r => r != root))
                    {
                        Send(Group.Rank, next);
                    }
                });
                Receive(root, root);
            }
            else
            {
                Receive(other, other);
            }
        }

        if (Group.Rank == root)
        {
            foreach (var other in Group.Others)
            {
                Send(root, other);
            }
        }
    }

    private (nint At, long Bytes) Part(int rank)
    {
        var start = bytes * rank / Group.Size;
        return (values + (nint)start, (bytes * (rank + 1) / Group.Size) - start);
    }

    private void Send(int part, int to) => Transfers.Send(Part(part).At, Part(part).Bytes, to);

    private void Receive(int part, int from, Action? then = null) => Transfers.Receive(Part(part).At, Part(part).Bytes, from, then);
}
