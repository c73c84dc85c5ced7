namespace OpenWeights.Tune.Cli.Launching;

/// <summary>Which ranks are started here.</summary>
/// <param name="Arguments">What each of them runs: a command of owt with its arguments.</param>
/// <param name="LocalRanks">Ranks on this machine; with --hosts, on all of them.</param>
internal sealed record LaunchPlan(IReadOnlyList<string> Arguments, int LocalRanks)
{
    private const int UsualPort = 29500;

    /// <summary>Number of machines, each with as many ranks.</summary>
    internal int Machines { get; init; } = 1;

    /// <summary>Number of this machine, from 0.</summary>
    internal int Machine { get; init; }

    /// <summary>Name or address of machine 0; null for this one.</summary>
    internal string? Master { get; init; }

    /// <summary>The port there; 0 for the usual one, or on one machine for a free one.</summary>
    internal int MasterPort { get; init; }

    /// <summary>Machines that mpirun starts ranks on, such as a:4,b:4; null for this one.</summary>
    internal string? Hosts { get; init; }

    /// <summary>Whether mpirun starts the ranks.</summary>
    internal bool ByMpi { get; init; }

    /// <summary>Number of all ranks.</summary>
    internal int Size => LocalRanks * Machines;

    /// <summary>Variables of all ranks of this machine.</summary>
    /// <param name="freePort">Finds a free port.</param>
    /// <param name="token">What only ranks of this start know.</param>
    internal IEnumerable<(string Name, string Value)> Variables(Func<int> freePort, string token)
    {
        yield return ("WORLD_SIZE", $"{Size}");
        yield return ("LOCAL_WORLD_SIZE", $"{LocalRanks}");
        yield return ("MASTER_ADDR", Machines == 1 ? "127.0.0.1" : Master!);
        yield return ("MASTER_PORT", $"{(MasterPort > 0 ? MasterPort : Machines == 1 ? freePort() : UsualPort)}");
        if (Machines == 1)
        {
            yield return ("OWT_RANK_TOKEN", token);
        }
    }

    /// <summary>Variables of one rank.</summary>
    /// <param name="local">The rank among those of this machine.</param>
    internal IEnumerable<(string Name, string Value)> VariablesOf(int local) =>
        [("RANK", $"{(Machine * LocalRanks) + local}"), ("LOCAL_RANK", $"{local}")];
}
