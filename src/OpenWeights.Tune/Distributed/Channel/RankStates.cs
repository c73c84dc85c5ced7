namespace OpenWeights.Tune.Distributed.Channel;

/// <summary>What all ranks do, and which of them is to blame when they do not come together.</summary>
internal static class RankStates
{
    /// <summary>
    /// One sentence if ranks that wait began different operations as the same number, or one waits for a rank that has ended; null
    /// otherwise.
    /// </summary>
    /// <param name="states">All ranks, and whether they have ended.</param>
    /// <param name="patience">Shorter waits are not looked at.</param>
    /// <param name="name">A rank's name with its host.</param>
    internal static string? Disagreement(IReadOnlyList<(RankState State, bool HasLeft)> states, TimeSpan patience, Func<int, string> name)
    {
        for (var rank = 0; rank < states.Count; rank++)
        {
            var state = states[rank].State;
            if (states[rank].HasLeft || state.Awaited == 0 || state.Seconds < patience.TotalSeconds)
            {
                continue;
            }

            for (var other = 0; other < states.Count; other++)
            {
                var (others, hasLeft) = states[other];
                if (hasLeft && others.Begun < state.Awaited && other != rank && others.Begun > 0)
                {
                    return $"{name(other)} ended its run, while {name(rank)} waits for it in operation {state.Awaited}, {state.Operation(state.Awaited)}.";
                }

                for (var number = Math.Max(1, state.Begun - state.Last.Count + 1); number <= state.Begun; number++)
                {
                    if (others.Operation(number) is { } its && state.Operation(number) is { } mine && its != mine)
                    {
                        return $"ranks must do the same, but {name(rank)} began {mine} as operation {number}, and {name(other)} began {its}.";
                    }
                }
            }
        }

        return null;
    }

    /// <summary>One sentence if a rank is stuck while another waits for it; null otherwise.</summary>
    /// <param name="states">All ranks, and whether they have ended.</param>
    /// <param name="limits">How long a rank may take.</param>
    /// <param name="name">A rank's name with its host.</param>
    internal static string? Stall(IReadOnlyList<(RankState State, bool HasLeft)> states, RankLimits limits, Func<int, string> name)
    {
        for (var rank = 0; rank < states.Count; rank++)
        {
            var stuck = states[rank].State;
            if (states[rank].HasLeft || stuck.Idle == 0)
            {
                continue;
            }

            var waiting = Enumerable.Range(0, states.Count).Where(r => !states[r].HasLeft && states[r].State.Awaited > stuck.Reached).ToList();
            if (waiting.Count > 0 && Stall(stuck, waiting.Select(r => states[r].State), limits) is var (why, variable))
            {
                var state = states[waiting[0]].State;
                return $"{name(rank)} lives, but has not got on for {stuck.Idle} s, while {name(waiting[0])} waits for it in operation {state.Awaited}{(state.Operation(state.Awaited) is { } label ? $", {label}" : "")}: it is stuck{(stuck.Kind.Length > 0 ? $" in {stuck.Kind}" : "")}{why} ({variable} is the limit in seconds).";
            }
        }

        return null;
    }

    // Why a rank that others wait for counts as stuck, and the limit's variable; null if it does not.
    private static (string Why, string Variable)? Stall(RankState stuck, IEnumerable<RankState> waiting, RankLimits limits)
    {
        var stall = limits.Stall.TotalSeconds;
        if (stall > 0 && stuck.IsStuck)
        {
            return ("", RankLimits.StallVariable);
        }

        if (stall > 0 && stuck.Quiet > stall)
        {
            return (", and neither computes nor reads nor writes", RankLimits.StallVariable);
        }

        // What it has never done before, those that wait for it may have done already.
        var others = stuck.IdleLimit > 0 ? [] : waiting.Select(s => s.Paces.GetValueOrDefault(stuck.Kind)).OfType<RankPace>().ToList();
        return stall > 0 && others.Count > 0 && stuck.Idle > others.Max(p => p.Limit(stuck.Amount, stall)) ? (", where the others got on within a fifth of that", RankLimits.StallVariable)
            : stuck.Idle > limits.Operation.TotalSeconds ? ("", RankLimits.OperationVariable)
            : null;
    }

    /// <summary>One sentence on who held up an operation.</summary>
    /// <param name="states">All ranks.</param>
    /// <param name="number">The operation's number.</param>
    /// <param name="reporter">The rank that waited.</param>
    /// <param name="limit">How long.</param>
    /// <param name="name">A rank's name with its host.</param>
    internal static string Blame(IReadOnlyList<(RankState State, bool HasLeft)> states, long number, int reporter, TimeSpan limit, Func<int, string> name)
    {
        var what = $"operation {number}{(states[reporter].State.Operation(number) is { } label ? $", {label}," : "")}";
        var late = Enumerable.Range(0, states.Count).Where(r => states[r].State.Begun < number).ToList();
        return late.Count == 0
            ? $"{name(reporter)} waited {limit.TotalSeconds:0} s for {what} which all ranks began: the network is down or too slow ({RankLimits.OperationVariable} is the limit in seconds)."
            : $"{string.Join(" and ", late.Take(8).Select(name))} did not come to {what} within {limit.TotalSeconds:0} s, while {name(reporter)} waited ({RankLimits.OperationVariable} is the limit in seconds).";
    }
}
