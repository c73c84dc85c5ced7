using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Schedules;

namespace OpenWeights.Tune.Tests.Schedules;

/// <summary>Schedules against the numbers that transformers' own tests expect (tests/optimization/test_optimization.py).</summary>
public sealed class RateScheduleTests
{
    private static readonly object[] s_published =
    [
        new object[] { "constant", new RateSettings { TotalSteps = 10 }, new[] { 10.0, 10, 10, 10, 10, 10, 10, 10, 10, 10 } },
        new object[] { "linear", new RateSettings { WarmupSteps = 2, TotalSteps = 10 }, new[] { 0.0, 5, 10, 8.75, 7.5, 6.25, 5, 3.75, 2.5, 1.25 } },
        new object[] { "cosine", new RateSettings { WarmupSteps = 2, TotalSteps = 10 }, new[] { 0.0, 5, 10, 9.61, 8.53, 6.91, 5, 3.08, 1.46, 0.38 } },
        new object[] { "cosine", new RateSettings { WarmupSteps = 2, TotalSteps = 10, Cycles = 2 }, new[] { 0.0, 5, 10, 8.53, 5, 1.46, 10, 8.53, 5, 1.46 } },
        new object[] { "polynomial", new RateSettings { WarmupSteps = 2, TotalSteps = 10, Power = 2 }, new[] { 0.0, 5, 10, 7.656, 5.625, 3.906, 2.5, 1.406, 0.625, 0.156 } },
        new object[] { "inverse_sqrt", new RateSettings { WarmupSteps = 2, TotalSteps = 10 }, new[] { 0.0, 5, 10, 8.165, 7.071, 6.325, 5.774, 5.345, 5, 4.714 } },
        new object[] { "warmup_stable_decay", new RateSettings { WarmupSteps = 2, TotalSteps = 7, DecaySteps = 3, MinFactor = 0.1 }, new[] { 0.0, 5, 10, 10, 10, 7.75, 3.25, 1, 1, 1 } },
    ];

    [TestCaseSource(nameof(s_published))]
    public void Rates_are_the_published_ones(string name, RateSettings settings, double[] expected) =>
        Assert.That(expected.Select((_, step) => RateSchedules.Rate(name, 10, step, settings)), Is.EqualTo(expected).Within(0.01));

    [TestCase("linear")]
    [TestCase("cosine")]
    [TestCase("polynomial")]
    [TestCase("warmup_stable_decay")]
    public void The_last_rate_is_the_least(string name)
    {
        var settings = new RateSettings { WarmupSteps = 10, TotalSteps = 200, MinFactor = 0.25, DecaySteps = 20 };
        Assert.That(RateSchedules.Rate(name, 1, 200, settings), Is.EqualTo(0.25).Within(1e-12));
        var rates = Enumerable.Range(10, 190).Select(s => RateSchedules.Rate(name, 1, s, settings)).ToList();
        Assert.That(rates, Is.All.InRange(0.25, 1.0));
        Assert.That(rates, Is.Ordered.Descending);
    }

    [Test]
    public void Every_name_of_the_config_is_a_schedule()
    {
        var setting = SettingInfo.Of(typeof(TrainingSection)).First(static s => s.Key == "lr_scheduler").Setting;
        Assert.That(RateSchedules.Names, Is.EquivalentTo(setting.OneOf));
    }
}
