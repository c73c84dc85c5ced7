using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Export.Comparison;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>Compares what was exported with what it was made of, on rows: loss, exact answers, and the prompts' tokens.</summary>
internal sealed class ExportComparison
{
    // More than rounding to few bits makes of a loss.
    private const double Worse = 0.05;
    private const int ShownTokens = 12;

    private readonly ComparedRows _rows;
    private readonly List<(string Reader, ReaderResult Result, ModelFolder Folder)> _results = [];

    private ExportComparison(ComparedRows rows) => _rows = rows;

    /// <summary>The comparison on the rows that are named, or on those of the run that an adapter is of; null where there are none.</summary>
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

    /// <summary>Lets a reader answer.</summary>
    internal void Add(string reader, CausalLanguageModel model, ModelFolder folder) => _results.Add((reader, ReaderResult.Of(_rows, model, folder, Signals.Stop), folder));

    /// <summary>Says what was found; the last reader is what was written.</summary>
    internal void Write()
    {
        Console.Out.WriteLine($"compared on {Amount.Count(_rows.Count)} rows, {_rows.From}:");
        Console.Out.WriteLine($"  {"",-18}{"loss",10}  exactly right");
        foreach (var (reader, result, _) in _results)
        {
            Console.Out.WriteLine($"  {reader,-18}{(result.Loss is { } loss ? Amount.Number(loss, "F4") : "-"),10}  {result.Exact} of {result.Asked}");
        }

        var (before, after) = (_results[^2], _results[^1]);
        Prompts(before.Reader, before.Result, before.Folder, after.Result, after.Folder);
        if (!after.Result.EndTokens.Order().SequenceEqual(before.Result.EndTokens.Order()))
        {
            Console.Error.WriteLine($"warning: what was written ends its answers at the tokens {string.Join(", ", after.Result.EndTokens)}, and {before.Reader} at {string.Join(", ", before.Result.EndTokens)}.");
        }

        if (after.Result.Loss is null != before.Result.Loss is null || after.Result.Loss > before.Result.Loss + Worse || after.Result.Exact < before.Result.Exact)
        {
            Console.Error.WriteLine($"warning: what was written does worse than {before.Reader}.");
        }
    }

    // Where a prompt becomes other tokens, whatever comes of it is no fault of the weights.
    private static void Prompts(string reader, ReaderResult before, ModelFolder beforeFolder, ReaderResult after, ModelFolder afterFolder)
    {
        if (before.Prompts.Count != after.Prompts.Count)
        {
            Console.Error.WriteLine($"warning: what was written reads a prompt of {after.Prompts.Count} rows, and {reader} of {before.Prompts.Count}; do their chat templates differ?");
            return;
        }

        var different = Enumerable.Range(0, before.Prompts.Count).Where(i => !before.Prompts[i].AsSpan().SequenceEqual(after.Prompts[i])).ToList();
        if (different.Count == 0)
        {
            return;
        }

        var (expected, actual) = (before.Prompts[different[0]], after.Prompts[different[0]]);
        var at = expected.AsSpan().CommonPrefixLength(actual);
        Console.Error.WriteLine($"warning: what was written reads {different.Count} of {before.Prompts.Count} prompts otherwise. The first one, from token {at} on:");
        Console.Error.WriteLine($"  {reader}: {Tokens(expected, at, beforeFolder)}");
        Console.Error.WriteLine($"  what was written: {Tokens(actual, at, afterFolder)}");
    }

    private static string Tokens(int[] ids, int at, ModelFolder folder)
    {
        var shown = ids.Skip(at).Take(ShownTokens).ToList();
        return shown.Count == 0 ? "(ends here)" : $"{string.Join(' ', shown)}{(ids.Length - at > ShownTokens ? " ..." : "")}  \"{AnswerText.Line(Tokenizer.Load(folder.FolderPath).Decode(shown, skipSpecialTokens: false))}\"";
    }
}
