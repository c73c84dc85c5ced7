using NUnit.Framework;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Distributed.Channel;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>Which rank counts as stuck. The clock is the test's.</summary>
public sealed class RankActivityTests
{
    private const int Stall = 40;
    private static readonly RankLimits s_limits = new(TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(600), TimeSpan.FromSeconds(300)) { Stall = TimeSpan.FromSeconds(Stall) };

    private long _seconds;
    private ProcessSigns? _signs;
    private RankActivity _activity = null!;

    /// <summary>Begins a rank.</summary>
    [SetUp]
    public void Begin()
    {
        (_seconds, _signs) = (1000, new ProcessSigns(Processor: 5000, Bytes: 1 << 20, MachineWritten: 1 << 30, WaitsForDisk: false));
        _activity = new RankActivity(TimeSpan.FromSeconds(Stall), () => 1000 * _seconds, () => _signs);
    }

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
        using (_activity.Outside())
        {
            _seconds += 1000;
            Assert.That(_activity.Read().Idle, Is.Zero, "a program judges answers");
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
        Assert.That(Stalled(computes, stuck, waits), Is.EqualTo("rank 1 (host1) lives, but has not got on for 50 s, while rank 2 (host2) waits for it in operation 7, all-reduce of 12 Float32: it is stuck (OWT_RANK_STALL is the limit in seconds)."));
        Assert.That(Stalled(computes, stuck, computes), Is.Null);
        Assert.That(Stalled(computes, stuck, waits with { Awaited = 6 }), Is.Null, "operation 6 has begun on all ranks");
        Assert.That(Stalled(computes, computes, waits), Is.Null);
        Assert.That(Stalled(computes, stuck with { Begun = 9, Reached = 6 }, waits), Does.Contain("rank 1 (host1) lives"), "its GPU does not come to what has begun");
        Assert.That(Stalled(computes, stuck with { Begun = 9, Reached = 9 }, waits), Is.Null);
    }

    [Test]
    public void Who_shows_no_sign_of_work_is_stuck_whatever_it_does_and_for_the_first_time()
    {
        using var loading = _activity.Do("loading the model");
        Look(Stall);
        var waits = new RankState(7, 7, 48, ["exchange of texts"]);
        Assert.That(Stalled(_activity.Read(), waits), Is.Null);
        Look(5);
        Assert.That(Stalled(_activity.Read(), waits), Is.EqualTo("rank 0 (host0) lives, but has not got on for 45 s, while rank 1 (host1) waits for it in operation 7, exchange of texts: it is stuck in loading the model, and neither computes nor reads nor writes (OWT_RANK_STALL is the limit in seconds)."));
        _activity.Progressed();
        Assert.That(Stalled(_activity.Read(), waits), Is.Null);
    }

    [TestCase(0.1, 0, 0, false, TestName = "Who computes is slow and not stuck")]
    [TestCase(0, 5000, 0, false, TestName = "Who reads or writes some bytes is slow and not stuck")]
    [TestCase(0, 0, 4 << 20, true, TestName = "Who waits for a disk that is written to is slow and not stuck")]
    public void Who_works_is_not_stuck(double share, long bytes, long written, bool waits)
    {
        using var loading = _activity.Do("loading the model");
        Look(10 * Stall, share, bytes, written, waits);
        Assert.That(_activity.Read(), Has.Property(nameof(RankState.Quiet)).Zero.And.Property(nameof(RankState.Idle)).EqualTo(10 * Stall));
    }

    [TestCase(0.01, 100, 0, false, TestName = "Some lines of output and a timer are no work")]
    [TestCase(0, 0, 4 << 20, false, TestName = "What others write to the disk is no work")]
    public void Who_does_nearly_nothing_does_not_work(double share, long bytes, long written, bool waits)
    {
        Look(Stall, share, bytes, written, waits);
        Assert.That(_activity.Read().Quiet, Is.EqualTo(Stall));
    }

    [Test]
    public void Where_the_system_does_not_tell_signs_of_work_nobody_is_stuck_for_lack_of_them()
    {
        _signs = null;
        Look(10 * Stall);
        Assert.That(_activity.Read().Quiet, Is.Zero);
    }

    [Test]
    public void A_process_that_itself_stood_still_is_not_stuck()
    {
        Look(5);
        _seconds += 100_000;
        _activity.Look();
        Assert.That(_activity.Read().Quiet, Is.LessThan(Stall));
    }

    [Test]
    public void Who_computes_for_much_longer_than_others_did_for_the_same_is_stuck()
    {
        using var own = _activity.Do("a step");
        _activity.Begins(200);
        var other = new RankActivity(TimeSpan.FromSeconds(Stall), () => 1000 * _seconds);
        var step = other.Do("a step");
        other.Begins(200);
        _seconds += 20;
        step.Dispose();
        RankState State() => other.Read() with { Begun = 7, Awaited = 7, Seconds = 1, Last = ["all-reduce"] };
        Look(79, share: 1);
        Assert.That(Stalled(_activity.Read(), State()), Is.Null, "99 s, and the other took 20");
        Look(5, share: 1);
        Assert.That(Stalled(_activity.Read(), State()), Does.Contain("has not got on for 104 s").And.Contain("stuck in a step, where the others got on within a fifth of that"));
        _activity.Begins(400);
        Look(104, share: 1);
        Assert.That(Stalled(_activity.Read(), State()), Is.Null, "twice the tokens may take four times as long");
    }

    [Test]
    public void Who_only_computes_and_cannot_be_compared_has_the_limit_of_an_operation()
    {
        using var reading = _activity.Do("reading the data");
        var waits = new RankState(7, 7, 600, ["exchange of texts"]);
        Look(600, share: 1);
        Assert.That(Stalled(_activity.Read(), waits), Is.Null);
        Look(5, share: 1);
        Assert.That(Stalled(_activity.Read(), waits), Does.Contain("it is stuck in reading the data (OWT_RANK_TIMEOUT is the limit in seconds)."));
    }

    [Test]
    public void The_signs_of_this_process_grow_with_its_work()
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("only Linux tells them");
        }

        var reader = new ProcessSignsReader();
        var before = reader.Read()!;
        var watch = System.Diagnostics.Stopwatch.StartNew();
        var mixed = 1UL;
        while (reader.Read()!.Processor < before.Processor + 200 && watch.Elapsed < TimeSpan.FromMinutes(1))
        {
            for (var i = 0; i < 1_000_000; i++)
            {
                mixed = (mixed * 6364136223846793005) + 1442695040888963407;
            }
        }

        Assert.That(reader.Read()!.Processor - before.Processor, Is.GreaterThanOrEqualTo(200), $"{mixed}");
        var file = Path.GetTempFileName();
        before = reader.Read()!;
        File.WriteAllBytes(file, new byte[1 << 20]);
        Assert.That(reader.Read()!.Bytes - before.Bytes, Is.EqualTo(1 << 20).Within(1 << 16), "without what the reader itself reads");
        File.Delete(file);
    }

    private static string? Stalled(params RankState[] states) => RankStates.Stall([.. states.Select(static s => (RankState.Parse(s.Write())!, false))], s_limits, static r => $"rank {r} (host{r})");

    // Looks every second while the process works so much.
    private void Look(int seconds, double share = 0, long bytes = 0, long written = 0, bool waits = false)
    {
        for (var i = 0; i < seconds; i++)
        {
            _activity.Look();
            _seconds++;
            _signs = _signs is null ? null : new ProcessSigns(_signs.Processor + (long)(1000 * share), _signs.Bytes + bytes, _signs.MachineWritten + written, waits);
        }

        _activity.Look();
    }

    private void Step(int seconds, long tokens = 1)
    {
        using var step = _activity.Do("step");
        _activity.Begins(tokens);
        _seconds += seconds;
    }
}
