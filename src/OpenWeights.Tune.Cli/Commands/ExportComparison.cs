using System.Text.Json.Nodes;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Comparison;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Compares an exported model with its source on rows: loss, exact answers, and prompt tokens.</summary>
internal sealed class ExportComparison
{
    // A larger increase of the loss than quantization causes.
    private const double Worse = 0.05;
    private const int ShownTokens = 12;
    private const string Written = "what was written";

    private readonly List<(string Model, ReaderResult Result, ITokenizer? Tokenizer)> _results = [];
    private readonly List<string> _notes = [];
    private readonly List<string> _warnings = [];
    private ComparedRows _rows;

    private ExportComparison(ComparedRows rows) => _rows = rows;

    /// <summary>Whether the base model can use at least one row; known after it was added.</summary>
    internal bool HasRows => _rows.Count > 0;

    /// <summary>The comparison on given rows, or on those of the adapter's run; null if there are none.</summary>
    internal static ExportComparison? Of(IReadOnlyList<string> data, IReadOnlyList<AdapterChoice> adapters, int count)
    {
        if (count == 0)
        {
            return null;
        }

        if (data.Count > 0)
        {
            return new ExportComparison(ComparedRows.OfFiles(data, count, maxNewTokens: 64));
        }

        try
        {
            return adapters is [var only] && ComparedRows.OfRun(only.Folder, count) is { Count: > 0 } rows ? new ExportComparison(rows) : null;
        }
        catch (Exception e) when (e is IOException or InvalidDataException)
        {
            Console.Out.WriteLine($"answers are not compared: {e.Message.TrimEnd('.')}; --data FILE names other rows");
            return null;
        }
    }

    /// <summary>Adds the results of a reader. Rows that the first reader cannot use are skipped for all.</summary>
    internal void Add(string model, IModelReader reader)
    {
        var result = ReaderResult.Of(_rows, reader, Signals.Stop);
        _rows = _results.Count == 0 ? _rows.Without(result.LeftOut) : _rows;
        _results.Add((model, result, reader.Tokenizer));
    }

    /// <summary>Adds the results of a reader of the exported model.</summary>
    /// <returns>Whether it does no worse than its source.</returns>
    internal bool AddWritten(IModelReader reader)
    {
        var before = _results.Last(static r => r.Model != Written);
        Add(Written, reader);
        _notes.AddRange(reader.Notes);
        var after = _results[^1];
        CompareTokens(before.Model, before.Result, before.Tokenizer, after.Result, after.Tokenizer);
        if (after.Result.Loss is null == before.Result.Loss is null && !(after.Result.Loss > before.Result.Loss + Worse) && after.Result.Exact >= before.Result.Exact)
        {
            return true;
        }

        _warnings.Add($"warning: what was written does worse than {before.Model} where {after.Result.Reader} reads it.");
        return false;
    }

    /// <summary>Adds a note for users of the exported model.</summary>
    internal void Note(string note) => _notes.Add(note);

    /// <summary>Prints the results.</summary>
    internal void Write()
    {
        if (!HasRows)
        {
            Console.Error.WriteLine($"warning: answers are not compared: the base takes none of the rows, {_rows.From}.");
            WriteLeftOut(Console.Error);
            return;
        }

        Console.Out.WriteLine($"compared on {Amount.Count(_rows.Count)} rows, {_rows.From}:");
        Console.Out.WriteLine($"  {"",-18}{"loss",10}  {"exactly right",-15}read by");
        foreach (var (model, result, _) in _results)
        {
            Console.Out.WriteLine($"  {model,-18}{(result.Loss is { } loss ? Amount.Number(loss, "F4") : "-"),10}  {$"{result.Exact} of {result.Asked}",-15}{result.Reader}");
        }

        WriteLeftOut(Console.Out);
        _notes.ForEach(Console.Out.WriteLine);
        _warnings.ForEach(Console.Error.WriteLine);
    }

    /// <summary>The results as JSON.</summary>
    internal JsonObject Json() => new()
    {
        ["rows"] = _rows.Count,
        ["from"] = _rows.From,
        ["results"] = new JsonArray([.. _results.Select(static r => (JsonNode)new JsonObject
        {
            ["name"] = r.Model,
            ["read_by"] = r.Result.Reader,
            ["loss"] = r.Result.Loss is { } loss && double.IsFinite(loss) ? loss : null,
            ["exact"] = r.Result.Exact,
            ["asked"] = r.Result.Asked,
            ["left_out"] = new JsonArray([.. r.Result.LeftOut.Select(static l => (JsonNode)new JsonObject { ["place"] = l.Place, ["why"] = l.Why })]),
        })]),
        ["different_prompts"] = _results.Find(static r => r.Model == Written) is { Result: { } after } ? Different(_results.Last(static r => r.Model != Written).Result, after).Count : null,
    };

    private void WriteLeftOut(TextWriter output)
    {
        foreach (var (model, result, _) in _results)
        {
            foreach (var group in result.LeftOut.GroupBy(static l => l.Why))
            {
                var longest = group.MaxBy(static l => l.Tokens)!;
                var rows = group.Count() == 1 ? "1 row is left out" : $"{Amount.Count(group.Count())} rows are left out";
                output.WriteLine($"  {rows}{(result == _results[0].Result ? "" : $" for {model}")}: {group.Key.TrimEnd('.')} ({(longest.Tokens > 0 ? $"{longest.Place} has {Amount.Count(longest.Tokens)}" : longest.Place)})");
            }
        }
    }

    // If a prompt is tokenized differently, the difference is not due to the weights.
    private void CompareTokens(string model, ReaderResult before, ITokenizer? beforeTokenizer, ReaderResult after, ITokenizer? afterTokenizer)
    {
        if (before.Prompts.Count != after.Prompts.Count)
        {
            _warnings.Add($"warning: what was written reads a prompt of {after.Prompts.Count} rows, and {model} of {before.Prompts.Count}; do their chat templates differ?");
        }
        else if (Different(before, after) is [var first, ..] different)
        {
            var (expected, actual) = (before.Prompts[first], after.Prompts[first]);
            var at = expected.AsSpan().CommonPrefixLength(actual);
            _warnings.AddRange(
            [
                $"warning: {(before.Reader == after.Reader ? "what was written" : $"{after.Reader}, which reads what was written,")} makes other tokens of {different.Count} of {before.Prompts.Count} prompts. The first one, from token {at} on:",
                $"  {model}: {Tokens(expected, at, beforeTokenizer!)}",
                $"  what was written: {Tokens(actual, at, afterTokenizer!)}",
            ]);
        }

        // llama.cpp ends answers at more tokens than the file names: those whose text looks like an end token.
        if (before.EndTokens.Except(after.EndTokens).Any() || (before.Reader == after.Reader && after.EndTokens.Except(before.EndTokens).Any()))
        {
            _warnings.Add($"warning: what was written ends its answers at the tokens {string.Join(", ", after.EndTokens)}, and {model} at {string.Join(", ", before.EndTokens)}.");
        }
    }

    private static List<int> Different(ReaderResult before, ReaderResult after) =>
        [.. Enumerable.Range(0, Math.Min(before.Prompts.Count, after.Prompts.Count)).Where(i => !before.Prompts[i].AsSpan().SequenceEqual(after.Prompts[i]))];

    private static string Tokens(int[] ids, int at, ITokenizer tokenizer)
    {
        var shown = ids.Skip(at).Take(ShownTokens).ToList();
        return shown.Count == 0 ? "(ends here)" : $"{string.Join(' ', shown)}{(ids.Length - at > ShownTokens ? " ..." : "")}  \"{AnswerText.Line(tokenizer.Decode(shown, skipSpecialTokens: false))}\"";
    }
}
