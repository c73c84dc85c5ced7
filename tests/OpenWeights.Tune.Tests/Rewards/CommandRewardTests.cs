using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Rewards;

namespace OpenWeights.Tune.Tests.Rewards;

/// <summary>A program that judges answers: it is started once, and what goes wrong is told with the row.</summary>
[Platform(Exclude = "Win", Reason = "the programs of these tests are scripts of a Unix shell")]
public sealed class CommandRewardTests
{
    [Test]
    public void One_program_judges_all_answers()
    {
        // The second number of each answer is its place, which only a program that keeps running can count.
        var rewards = Score(Script("n=0; while read line; do n=$((n+1)); echo \"{\\\"reward\\\": $n}\"; done"), "a", "b", "c");
        Assert.That(rewards, Is.EqualTo(new double?[] { 1, 2, 3 }));
    }

    [Test]
    public void It_reads_prompt_answer_and_row_as_JSON()
    {
        var rewards = Score(Script("while read line; do case \"$line\" in *'\"answer\":\"right\"'*'\"expected\":\"e\"'*) echo 1;; *) echo null;; esac; done"), "right", "wrong");
        Assert.That(rewards, Is.EqualTo(new double?[] { 1, null }));
    }

    [Test]
    public void One_that_ends_is_started_again_and_told()
    {
        using var reward = (IDisposable)RewardKinds.Create(Script("read line; echo 1; read line; echo 'no more' >&2; exit 3"));
        var rewards = ((IReward)reward).Score([.. new[] { "a", "b", "c" }.Select(static a => RewardTests.Answer(a, "e"))]);
        Assert.That(rewards, Is.EqualTo(new double?[] { 1, null, 1 }));
        Assert.That(((IReward)reward).TakeWarnings(), Has.One.Contains("rows.jsonl line 3").And.One.Contains("code 3").And.One.Contains("1 of 3"));
        Assert.That(((IReward)reward).TakeWarnings(), Is.Empty);
    }

    [TestCase("while read line; do echo '{\"error\": \"no such unit test\"}'; done", "no such unit test")]
    [TestCase("while read line; do echo 'fine'; done", "'fine', which is not JSON")]
    [TestCase("while read line; do echo '{\"score\": \"high\", \"reward\": \"high\"}'; done", "{\"reward\": 1.0}")]
    [TestCase("sleep 60", "within 0.2 s")]
    public void One_that_fails_on_every_answer_stops_the_run(string script, string told) =>
        Assert.That(() => Score(Script(script) with { Timeout = script.StartsWith("sleep", StringComparison.Ordinal) ? 0.2 : 30 }, "a"), Throws.InstanceOf<TrainingFailedException>().With.Message.Contains(told).And.Message.Contains("rows.jsonl line 3"));

    [Test]
    public void A_program_that_does_not_exist_is_told() =>
        Assert.That(static () => Score(new RewardSection { Type = "command", Command = ["no-such-program-here"] }, "a"), Throws.InstanceOf<TrainingFailedException>().With.Message.Contains("no-such-program-here cannot be started"));

    private static RewardSection Script(string script) => new() { Type = "command", Command = ["sh", "-c", script] };

    private static IReadOnlyList<double?> Score(RewardSection section, params string[] answers)
    {
        using var reward = (IDisposable)RewardKinds.Create(section);
        return ((IReward)reward).Score([.. answers.Select(static a => RewardTests.Answer(a, "e"))]);
    }
}
