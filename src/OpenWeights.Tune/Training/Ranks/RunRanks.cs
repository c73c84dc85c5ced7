using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Torch;
using TorchSharp;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>The ranks that compute a run together, as this process sees them. One process is the only rank of its run.</summary>
internal sealed class RunRanks : IDisposable
{
    private RunRanks(RankGroup group) => Group = group;

    /// <summary>Number of ranks.</summary>
    public int Count => Group.Size;

    /// <summary>Whether this rank writes the files and the messages of the run.</summary>
    public bool IsFirst => Group.IsFirst;

    /// <summary>What the library knows of the ranks.</summary>
    internal RankGroup Group { get; }

    /// <summary>Joins the other ranks, as the environment's variables name them; without such, this process is the only one.</summary>
    /// <param name="device">model.device of the run.</param>
    /// <exception cref="RankFailedException">The ranks do not come together.</exception>
    public static RunRanks Join(string device) =>
        new(RankEnvironment.Current.Size == 1 ? RankGroup.Alone : RankStart.Join(Devices.Find(device).type == DeviceType.CUDA));

    /// <summary>Options of a run that these ranks compute.</summary>
    /// <param name="options">The other options.</param>
    public RunOptions Of(RunOptions options) => options with { Ranks = Group };

    /// <summary>Runs an action, and tells the other ranks if it throws, so that all end.</summary>
    /// <param name="action">The action.</param>
    public T Guard<T>(Func<T> action)
    {
        ArgumentNullException.ThrowIfNull(action);
        return RankStart.Guard(Group, action);
    }

    /// <summary>Fetches files that the next call finds: first on one rank of each machine, then on the others. It must have limits of its own: the others wait for it.</summary>
    /// <param name="work">The work.</param>
    public void OncePerHost(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        _ = Group.OncePerHost(null, () =>
        {
            work();
            return true;
        });
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!Group.IsAlone)
        {
            Group.Dispose();
        }
    }
}
