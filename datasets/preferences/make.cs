#:property PublishAot=false

// Writes preferences from the quickstart's rows: the ISO date is preferred, the same date with the day first is not.
//
//   dotnet run datasets/preferences/make.cs -- datasets/quickstart datasets/preferences
//
// The same rows on every machine.

using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;

var (from, to) = args.Length == 2 ? (args[0], args[1]) : throw new ArgumentException("give the quickstart's folder and the folder to write to");
foreach (var (name, skip, count) in new[] { ("train", 0, 400), ("eval", 400, 100) })
{
    var rows = File.ReadLines(Path.Combine(from, "train.jsonl")).Skip(skip).Take(count).Select(Row).ToList();
    Write($"pairs-{name}.jsonl", rows.Select(static r => (object)new { prompt = new[] { new { role = "user", content = r.Question } }, chosen = Turn(r.Iso), rejected = Turn(r.DayFirst) }));
    Write($"labels-{name}.jsonl", rows.Select(static (r, i) => (object)new { prompt = new[] { new { role = "user", content = r.Question } }, completion = Turn(i % 2 == 0 ? r.Iso : r.DayFirst), label = i % 2 == 0 }));
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

static object Turn(string text) => new[] { new { role = "assistant", content = text } };

static (string Question, string Iso, string DayFirst) Row(string line)
{
    var messages = JsonDocument.Parse(line).RootElement.GetProperty("messages");
    var iso = messages[1].GetProperty("content").GetString()!;
    return (messages[0].GetProperty("content").GetString()!, iso, DateOnly.Parse(iso, CultureInfo.InvariantCulture).ToString("dd-MM-yyyy", CultureInfo.InvariantCulture));
}
