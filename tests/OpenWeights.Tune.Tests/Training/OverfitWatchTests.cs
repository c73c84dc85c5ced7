using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Training;

namespace OpenWeights.Tune.Tests.Training;

/// <summary>The warning of memorized rows.</summary>
public sealed class OverfitWatchTests
{
    [Test]
    public void It_is_told_once_when_the_eval_loss_rises_twice_while_the_training_loss_falls()
    {
        var watch = new OverfitWatch(keepsBest: false);
        Assert.That(Told(watch, 10, 2.0, 2.1), Is.Null);
        Assert.That(Told(watch, 20, 1.5, 1.9), Is.Null);
        Assert.That(Told(watch, 30, 1.0, 1.95), Is.Null, "a single rise may be chance");
        var told = Told(watch, 40, 0.6, 2.2);
        Assert.That(told, Does.Contain("since step 20 from 1.9000 to 2.2000").And.Contains("from 1.5000 to 0.6000").And.Contains("keep_best"));
        Assert.That(Told(watch, 50, 0.3, 2.6), Is.Null, "once");
    }

    [Test]
    public void It_is_not_told_while_the_eval_loss_falls_or_hardly_rises_or_both_rise()
    {
        var falling = new OverfitWatch(keepsBest: true);
        var flat = new OverfitWatch(keepsBest: true);
        var diverging = new OverfitWatch(keepsBest: true);
        for (var i = 1; i < 12; i++)
        {
            Assert.That(Told(falling, i, 2.0 / i, 2.0 - (0.05 * i)), Is.Null);
            Assert.That(Told(flat, i, 2.0 / i, 2.0 + (0.001 * i)), Is.Null);
            Assert.That(Told(diverging, i, 2.0 * i, 2.0 * i), Is.Null, "a run that diverges does not memorize");
        }
    }

    [Test]
    public void A_resumed_run_goes_on_with_what_it_recorded()
    {
        var lines = new[] { """{"step":1,"loss":2}""", """{"step":1,"eval_loss":1.9}""", """{"step":2,"loss":1}""", """{"step":2,"eval_loss":2.0}""", """{"step":3,"loss":null}""", """{"step":3,"loss":0.5}""" };
        var watch = new OverfitWatch(keepsBest: true);
        watch.Restore(lines.Select(static l => JsonNode.Parse(l)!.AsObject()));
        Assert.That(watch.Evaluated(3, 2.3), Does.Contain("since step 1").And.Contains("are kept"));
    }

    private static string? Told(OverfitWatch watch, long step, double train, double eval)
    {
        watch.Stepped(train);
        return watch.Evaluated(step, eval);
    }
}
