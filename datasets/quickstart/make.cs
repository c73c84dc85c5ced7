#:property PublishAot=false

// Writes the quickstart's data: what its base model is trained on from scratch, and the rows of the quickstart itself.
//
//   dotnet run datasets/quickstart/make.cs -- OUTPUT_FOLDER
//
// The same rows on every machine. Everything here was written for this project; see README.md beside this file.

using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;

var folder = args.Length == 1 ? args[0] : throw new ArgumentException("give the folder to write to");
Directory.CreateDirectory(folder);
var random = new Numbers(2026);

// The base learns numbers, months, days and years one by one, and dashes between numbers, and never sees a whole date in digits.
var lessons = new Func<(string, string)>[]
{
    () => Pick(random.Below(1000), n => ($"Write {Words.Cardinal(n)} in digits.", Text(n))),
    () => Pick(random.Below(1000), n => ($"Write {n} in words.", Words.Cardinal(n))),
    () => Pick(random.Below(100), n => ($"Write {Words.Cardinal(n)} with two digits.", n.ToString("D2", CultureInfo.InvariantCulture))),
    () => Pick(1 + random.Below(31), n => ($"Write {Words.Ordinal(n)} in digits.", Text(n))),
    () => Pick(1 + random.Below(31), n => ($"Which day is {Words.Ordinal(n)}?", n.ToString("D2", CultureInfo.InvariantCulture))),
    () => Pick(1 + random.Below(31), n => ($"Which word says day {n}?", Words.Ordinal(n))),
    () => Pick(1 + random.Below(12), n => ($"Which month is {Words.Months[n - 1]}?", n.ToString("D2", CultureInfo.InvariantCulture))),
    () => Pick(1 + random.Below(12), n => ($"What is month {n} called?", Words.Months[n - 1])),
    () => Pick(random.Below(12), n => ($"Which month comes after {Words.Months[n]}?", Words.Months[(n + 1) % 12])),
    () => Pick(1900 + random.Below(130), n => ($"Which year is {Words.Year(n)}?", Text(n))),
    () => Pick(1900 + random.Below(130), n => ($"Say the year {n}.", Words.Year(n))),
    () => Pick(random.Date(), d => ($"Which year is in {Words.Date(d, random.Below(3))}?", Text(d.Year))),
    () => Pick(random.Date(), d => ($"Which month is in {Words.Date(d, random.Below(3))}?", d.Month.ToString("D2", CultureInfo.InvariantCulture))),
    () => Pick(random.Date(), d => ($"Which day is in {Words.Date(d, random.Below(3))}?", d.Day.ToString("D2", CultureInfo.InvariantCulture))),
    () => Pick((random.Below(100), random.Below(100)), n => ($"Join {n.Item1} and {n.Item2} with a dash.", $"{n.Item1}-{n.Item2}")),
    () => Pick(random.Date(), d => ($"Repeat {Words.Date(d, random.Below(3))}.", Words.Date(d, 0))),
};
Write(Path.Combine(folder, "base.jsonl"), Enumerable.Range(0, 60_000).Select(i => lessons[i % lessons.Length]()));
Write(Path.Combine(folder, "base-eval.jsonl"), Enumerable.Range(0, 600).Select(i => lessons[i % lessons.Length]()));

// The quickstart: dates in words to ISO 8601. No date of the eval rows is among the training rows.
var dates = new HashSet<DateOnly>();
while (dates.Count < 4200)
{
    dates.Add(random.Date());
}

(string, string) IsoRow(DateOnly date) => ($"Give the ISO date of {Words.Date(date, random.Below(3))}.", date.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture));
Write(Path.Combine(folder, "train.jsonl"), dates.Take(4000).Select(IsoRow));
Write(Path.Combine(folder, "eval.jsonl"), dates.Skip(4000).Select(IsoRow));

static (string, string) Pick<T>(T drawn, Func<T, (string, string)> make) => make(drawn);

static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

static void Write(string path, IEnumerable<(string Question, string Answer)> rows)
{
    var options = new JsonSerializerOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    using var writer = new StreamWriter(path) { NewLine = "\n" };
    foreach (var (question, answer) in rows)
    {
        object[] messages = [new { role = "user", content = question }, new { role = "assistant", content = answer }];
        writer.WriteLine(JsonSerializer.Serialize(new { messages }, options));
    }
}

internal static class Words
{
    internal static readonly string[] Months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

    private static readonly string[] s_small =
    [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen",
        "sixteen", "seventeen", "eighteen", "nineteen",
    ];

    private static readonly string[] s_tens = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

    private static readonly Dictionary<string, string> s_ordinals = new()
    {
        ["one"] = "first",
        ["two"] = "second",
        ["three"] = "third",
        ["five"] = "fifth",
        ["eight"] = "eighth",
        ["nine"] = "ninth",
        ["twelve"] = "twelfth",
    };

    internal static string Cardinal(int n) => n switch
    {
        < 20 => s_small[n],
        < 100 => s_tens[n / 10] + (n % 10 == 0 ? "" : "-" + s_small[n % 10]),
        _ => $"{s_small[n / 100]} hundred{(n % 100 == 0 ? "" : " and " + Cardinal(n % 100))}",
    };

    internal static string Ordinal(int n)
    {
        var words = Cardinal(n);
        var dash = words.LastIndexOf('-');
        var (start, last) = (words[..(dash + 1)], words[(dash + 1)..]);
        return start + (s_ordinals.TryGetValue(last, out var ordinal) ? ordinal : last.EndsWith('y') ? last[..^1] + "ieth" : last + "th");
    }

    internal static string Year(int year) => year switch
    {
        2000 => "two thousand",
        > 2000 and < 2010 => $"two thousand and {Cardinal(year % 100)}",
        _ when year % 100 == 0 => $"{Cardinal(year / 100)} hundred",
        _ when year % 100 < 10 => $"{Cardinal(year / 100)} oh {Cardinal(year % 100)}",
        _ => $"{Cardinal(year / 100)} {Cardinal(year % 100)}",
    };

    internal static string Date(DateOnly date, int form) => form switch
    {
        0 => $"the {Ordinal(date.Day)} of {Months[date.Month - 1]}, {Year(date.Year)}",
        1 => $"{Months[date.Month - 1]} the {Ordinal(date.Day)}, {Year(date.Year)}",
        _ => $"{Months[date.Month - 1]} {Ordinal(date.Day)}, {Year(date.Year)}",
    };
}

// SplitMix64: .NET's own random numbers may change from one version to the next.
internal sealed class Numbers(ulong seed)
{
    private ulong _state = seed;

    internal int Below(int bound)
    {
        var z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return (int)(((UInt128)(z ^ (z >> 31)) * (ulong)bound) >> 64);
    }

    internal DateOnly Date() => new DateOnly(1900, 1, 1).AddDays(Below(new DateOnly(2030, 1, 1).DayNumber - new DateOnly(1900, 1, 1).DayNumber));
}
