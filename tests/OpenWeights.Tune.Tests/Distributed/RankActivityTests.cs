using NUnit.Framework;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Distributed.Channel;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>Which rank counts as stuck. The clock is the test's.</summary>
public sealed class RankActivityTests
{
    private const int Stall = 40;
    private long _seconds;
    private RankActivity _activity = null!;

    /// <summary>Begins a rank.</summary>
    [SetUp]
    public void Begin() => (_seconds, _activity) = (1000, new RankActivity(TimeSpan.FromSeconds(Stall), () => 1000 * _seconds));

    [Test]
    public void The_first_step_may_take_as_long_as_it_takes()
    {
        using var step = _activity.Do("step");
        _seconds += 1_000_000;
        Assert.That(_activity.Read().IsStuck, Is.False);
    }

    [Test]
    public void A_step_that_does_not_get_on_is_stuck_after_the_limit_and_not_before()
    {
        Step(seconds: 1);
        using var step = _activity.Do("step");
        _seconds += Stall;
        Assert.That(_activity.Read().IsStuck, Is.False);
        _seconds++;
        Assert.That(_activity.Read().IsStuck, Is.True);
        _activity.Progressed();
        Assert.That(_activity.Read().IsStuck, Is.False);
    }

    [Test]
    public void Where_steps_are_long_the_limit_is_several_times_the_longest_way()
    {
        Step(seconds: 100);
        Step(seconds: 20);
        using var step = _activity.Do("step");
        _seconds += 500;
        Assert.That(_activity.Read().IsStuck, Is.False);
        _seconds++;
        Assert.That(_activity.Read().IsStuck, Is.True);
    }

    [Test]
    public void More_work_than_ever_before_may_take_longer()
    {
        Step(seconds: 1, tokens: 100);
        using var step = _activity.Do("step");
        _activity.Begins(300);
        _seconds += 9 * Stall;
        Assert.That(_activity.Read().IsStuck, Is.False);
        _seconds++;
        Assert.That(_activity.Read().IsStuck, Is.True);
    }

    [Test]
    public void What_is_done_within_a_step_and_between_steps_has_its_own_pace()
    {
        Step(seconds: 1);
        _seconds += 1000;
        Assert.That(_activity.Read().IsStuck, Is.False, "between steps, where files are written");
        using var step = _activity.Do("step");
        using (_activity.Do(null))
        {
            _seconds += 1000;
            Assert.That(_activity.Read().IsStuck, Is.False, "sampling answers");
        }

        using (_activity.Do("evaluation"))
        {
            _seconds += 1000;
            Assert.That(_activity.Read().IsStuck, Is.False, "the first evaluation");
        }

        _seconds += Stall + 1;
        Assert.That(_activity.Read().IsStuck, Is.True, "the step goes on");
    }

    [Test]
    public void Who_waits_for_others_is_not_stuck()
    {
        Step(seconds: 1);
        using var step = _activity.Do("step");
        using (_activity.Wait(_activity.Begin("all-reduce")))
        {
            _seconds += 1000;
            Assert.That(_activity.Read(), Has.Property(nameof(RankState.IsStuck)).False.And.Property(nameof(RankState.Seconds)).EqualTo(1000));
        }

        Assert.That(_activity.Read().Idle, Is.Zero);
    }

    [Test]
    public void The_one_that_is_stuck_is_named_only_while_another_waits_for_it()
    {
        var stuck = new RankState(6, 0, 0, []) { Idle = 50, IdleLimit = Stall };
        var waits = new RankState(7, 7, 48, ["exchange of texts", "all-reduce of 12 Float32"]);
        var computes = new RankState(6, 0, 0, []) { Idle = 3, IdleLimit = Stall };
        string? Stalled(params RankState[] states) => RankStates.Stall([.. states.Select(static s => (RankState.Parse(s.Write())!, false))], static r => $"rank {r} (host{r})");
        Assert.That(Stalled(computes, stuck, waits), Is.EqualTo("rank 1 (host1) lives, but has not got on for 50 s, while rank 2 (host2) waits for it in operation 7, all-reduce of 12 Float32: it is stuck (OWT_RANK_STALL is the limit in seconds)."));
        Assert.That(Stalled(computes, stuck, computes), Is.Null);
        Assert.That(Stalled(computes, stuck, waits with { Awaited = 6 }), Is.Null, "operation 6 has begun on all ranks");
        Assert.That(Stalled(computes, computes, waits), Is.Null);
    }

    private void Step(int seconds, long tokens = 1)
    {
        using var step = _activity.Do("step");
        _activity.Begins(tokens);
        _seconds += seconds;
    }
}
