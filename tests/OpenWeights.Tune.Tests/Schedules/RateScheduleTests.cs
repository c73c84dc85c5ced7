using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Extensions;
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
        new object[] { "warmup_stable_decay", new RateSettings { WarmupSteps = 2, TotalSteps = 7, DecaySteps = 3, MinFactor = 0.1 }, new[] { 1.0, 5.5, 10, 10, 10, 7.75, 3.25, 1, 1, 1 } },
    ];

    [TestCaseSource(nameof(s_published))]
    public void Rates_are_the_published_ones(string name, RateSettings settings, double[] expected) =>
        Assert.That(expected.Select((_, step) => RateSchedules.Rate(name, 10, step, settings)), Is.EqualTo(expected).Within(0.01));

    private static JsonObject Tables => new Golden("schedules", "adapters2026").Json["schedules"]!.AsObject();

    private static IEnumerable<string> TableNames => SharedFiles.Find("goldens", "adapters2026", "schedules") is null ? [] : Tables.Select(static t => t.Key);

    [TestCaseSource(nameof(TableNames))]
    public void Rates_are_transformers_beyond_the_last_step_too(string name)
    {
        var table = Tables[name]!;
        var (training, total, peak) = Settings(table);
        var settings = RunRates.Of(training, total);
        var expected = table["lr"]!.AsArray().Select(static r => r!.GetValue<double>()).ToList();
        Assert.That(expected.Select((_, step) => RateSchedules.Rate(training.Schedule, peak, step, settings)), Is.EqualTo(expected).Within(1e-12));
    }

    private static (TrainingSection Training, long Total, double Peak) Settings(JsonNode table)
    {
        var (arguments, peak) = (table["args"]!, table["base_lr"]!.GetValue<double>());
        double? Number(string key) => arguments[key]?.GetValue<double>();
        long? Count(string key) => arguments[key]?.GetValue<long>();
        var least = Number("min_lr_ratio") ?? Number("min_lr_rate") ?? (Number("min_lr") ?? Number("lr_end") ?? 0) / peak;
        var restarts = table["function"]!.ToString() == "get_cosine_with_hard_restarts_schedule_with_warmup";
        var training = new TrainingSection
        {
            LearningRate = peak,
            LrScheduler = table["function"]!.ToString() switch
            {
                "get_constant_schedule_with_warmup" => "constant",
                "get_linear_schedule_with_warmup" => "linear",
                "get_polynomial_decay_schedule_with_warmup" => "polynomial",
                "get_inverse_sqrt_schedule" => "inverse_sqrt",
                "get_wsd_schedule" => "warmup_stable_decay",
                "get_cosine_with_min_lr_schedule_with_warmup_lr_rate" => "cosine_warmup_with_min_lr",
                _ => restarts ? "cosine_with_restarts" : "cosine",
            },
            WarmupSteps = Count("num_warmup_steps"),
            MinLrRatio = least,
            LrCycles = restarts ? (int)(Count("num_cycles") ?? 1) : 1,
            LrNumCycles = restarts ? 0.5 : Number("num_cycles") ?? 0.5,
            LrPower = Number("power") ?? 1,
            LrTimescale = Count("timescale"),
            WarmupLrRate = Number("warmup_lr_rate"),
            LrDecaySteps = Count("num_decay_steps"),
            LrStableSteps = Count("num_stable_steps"),
            LrWarmupType = arguments["warmup_type"]?.ToString() ?? "linear",
            LrDecayType = arguments["decay_type"]?.ToString() ?? "cosine",
        };
        return (training, Count("num_training_steps") ?? 100, peak);
    }

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
