using System.Globalization;
using NUnit.Framework;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>
/// Every reader gets damaged and hostile files, made from good ones by the grammar of their format: each is read, or refused with an exception
/// that the reader documents, in bounded time and memory. scripts/fuzz reads more of them.
/// </summary>
[TestFixture]
[Category("Fuzz")]
public sealed class FuzzTests
{
    // Only a reader that hangs meets this; what an input may cost is bounded by counts, not by time.
    private static readonly TimeSpan s_longest = TimeSpan.FromSeconds(60);

    private static IEnumerable<TestCaseData> Readers() => FuzzedReader.All.Select(static make =>
    {
        using var reader = make();
        return new TestCaseData(make).SetArgDisplayNames(reader.Name);
    });

    [TestCaseSource(nameof(Readers))]
    public void A_damaged_file_is_read_or_refused_with_a_sentence(Delegate make)
    {
        using var reader = ((Func<FuzzedReader>)make)();
        var (count, first) = (Setting("OWT_FUZZ_INPUTS") ?? reader.Usual, Setting("OWT_FUZZ_SEED") ?? 0);
        if (Environment.GetEnvironmentVariable("OWT_FUZZ_READER") is { Length: > 0 } only && only != reader.Name)
        {
            Assert.Ignore($"scripts/fuzz was asked for {only}");
        }

        var run = new FuzzRun(reader);
        var thread = new Thread(() => run.Go(first, count), maxStackSize: 1 << 20) { IsBackground = true };
        thread.Start();
        for (var (seen, since) = (-1, DateTime.UtcNow); !thread.Join(500);)
        {
            if (seen != run.Current)
            {
                (seen, since) = (run.Current, DateTime.UtcNow);
            }

            Assert.That(DateTime.UtcNow - since, Is.LessThan(s_longest), $"{reader.Name} hangs at input {run.Current}: {run.Shown}");
        }

        Assert.That(run.Faults, Is.Empty);
        if (count >= 300 && !reader.TakesAll)
        {
            Assert.That(run.Refused, Is.InRange(count / 20, count - (count / 100)), "nearly all inputs are read, or nearly none: they do not reach the reader's checks");
        }

        TestContext.Out.WriteLine($"{reader.Name}: {count} inputs from {first}: {run.Refused} refused, {count - run.Refused} read; at most {run.Most:N0} bytes allocated beyond twice an input");
    }

    // Numbers of inputs that once met a fault, of the hundreds of thousands that scripts/fuzz has read.
    [TestCase("adapter", 10443)]
    [TestCase("gguf", 115978)]
    [TestCase("template", 189822)]
    [TestCase("template", 429191)]
    [TestCase("tokenizer.json", 100207)]
    public void An_input_that_once_met_a_fault_is_read_or_refused(string name, int number)
    {
        using var reader = FuzzedReader.All.Select(static make => make()).Single(r => r.Name == name);
        var run = new FuzzRun(reader);
        run.Go(number, 1);
        Assert.That(run.Faults, Is.Empty);
    }

    private static int? Setting(string name) => int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;
}
