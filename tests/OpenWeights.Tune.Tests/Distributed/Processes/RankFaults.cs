using OpenWeights.Tune.Distributed;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Distributed.Processes;

/// <summary>What may go wrong with one rank while the others go on.</summary>
internal static class RankFaults
{
    internal static void Run(RankGroup group, string scenario)
    {
        // The last rank is the one that fails, unless the first is asked for.
        var isOdd = group.Rank == (scenario.EndsWith("-first", StringComparison.Ordinal) ? 0 : group.Size - 1);
        var values = ones(1000, float32);
        Sum(group, values);
        RankScenarios.Say(group, $"process {Environment.ProcessId} is ready");
        switch (scenario.Replace("-first", "", StringComparison.Ordinal))
        {
            case "compute":
                // Until the test does something to one of them.
                while (true)
                {
                    Sum(group, values.fill_(1));
                    Thread.Sleep(5);
                }

            case "throw":
                if (isOdd)
                {
                    group.Channel.Fail("its file rows.jsonl is not there");
                    throw new RankFailedException(group.Channel.Failure!);
                }

                break;
            case "differ":
                RankAgreement.Require(group, "the config", isOdd ? "lr: 2" : "lr: 1");
                break;
            case "other-operation":
                _ = isOdd ? group.Channel.Exchange("hello")[0] : null;
                break;
            case "other-dtype":
                Sum(group, isOdd ? values.to(float64) : values);
                break;
            case "stuck":
                // The process lives, but its step does not end.
                for (var step = 0; step < 3; step++)
                {
                    using var doing = group.Activity!.Do("step");
                    Thread.Sleep(isOdd && step == 2 ? Timeout.Infinite : 0);
                    Sum(group, values.fill_(1));
                }

                break;
            case "spin":
                // It computes something else than the others, for ever, in what it does for the first time.
                using (group.Activity!.Do("a step"))
                {
                    while (isOdd)
                    {
                    }

                    Sum(group, values.fill_(1));
                }

                break;
            case "sleep":
                Thread.Sleep(isOdd ? Timeout.Infinite : 0);
                break;
            case "leave":
                if (isOdd)
                {
                    return;
                }

                break;
            default:
                throw new ArgumentException($"there is no scenario {scenario}", nameof(scenario));
        }

        Sum(group, values);
        Sum(group, values);
    }

    // As a program does that then reads the sum.
    private static void Sum(RankGroup group, Tensor values)
    {
        group.Collectives.BeginAllReduceSum(values).Wait();
        StandInGpu.Synchronize();
    }
}
