#:property PublishAot=false

// Writes texts with a class, and texts that belong together, from the quickstart's dates: the season of a date in words, and the same date with
// digits.
//
//   dotnet run datasets/texts/make.cs -- datasets/quickstart datasets/texts
//
// The same rows on every machine.

using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;

const string Question = "Give the ISO date of ";
string[] seasons = ["winter", "spring", "summer", "autumn"];
var (from, to) = args.Length == 2 ? (args[0], args[1]) : throw new ArgumentException("give the quickstart's folder and the folder to write to");
var dates = File.ReadLines(Path.Combine(from, "train.jsonl")).Select(Row).DistinctBy(static r => r.Date).ToList();
foreach (var (name, skip, count) in new[] { ("train", 0, 800), ("eval", 800, 100) })
{
    var rows = dates.Skip(skip).Take(count).ToList();
    Write($"classes-{name}.jsonl", rows.Take(400).Select(r => (object)new { text = r.Words, label = seasons[r.Date.Month / 3 % 4] }));
    Write($"related-{name}.jsonl", rows.Select(static r => (object)new { anchor = r.Words, positive = Digits(r.Date), negatives = new[] { Digits(r.Date.AddDays(r.Date.Day > 15 ? -9 : 9)), Digits(r.Date.AddYears(7)) } }));
}

void Write(string name, IEnumerable<object> rows)
{
    var options = new JsonSerializerOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    using var writer = new StreamWriter(Path.Combine(to, name)) { NewLine = "\n" };
    foreach (var row in rows)
    {
        writer.WriteLine(JsonSerializer.Serialize(row, options));
    }
}

static string Digits(DateOnly date) => date.ToString("d MMMM yyyy", CultureInfo.InvariantCulture);

static (string Words, DateOnly Date) Row(string line)
{
    var messages = JsonDocument.Parse(line).RootElement.GetProperty("messages");
    var question = messages[0].GetProperty("content").GetString()!;
    return (question[Question.Length..].TrimEnd('.'), DateOnly.Parse(messages[1].GetProperty("content").GetString()!, CultureInfo.InvariantCulture));
}
