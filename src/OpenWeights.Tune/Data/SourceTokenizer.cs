using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Data;

/// <summary>
/// Tokenizes a data set: one thread reads rows from files, all processors parse and tokenize them, and the order is kept.
/// </summary>
internal sealed class SourceTokenizer
{
    private const int BatchRows = 256;
    private const int BatchBytes = 1 << 18;
    private const int ExamplesKept = 5;

    private readonly DataSource _source;
    private readonly RowTokenizer _tokenizer;
    private readonly int _vocabularySize;
    private readonly bool _skipBad;
    private readonly bool _promptsAlone;
    private readonly FieldMap _fields;
    private readonly List<StoreFile> _files = [];
    private readonly List<string> _badExamples = [];
    private long _badRows;
    private long _together;
    private string? _togetherExample;
    private long _rows;
    private long _leftOut;

    internal SourceTokenizer(DataSource source, RowTokenizer tokenizer, int vocabularySize, bool skipBad, bool promptsAlone = false)
    {
        _promptsAlone = promptsAlone;
        (_source, _tokenizer, _vocabularySize, _skipBad, _fields) = (source, tokenizer, vocabularySize, skipBad, new FieldMap(source));
    }

    /// <summary>Writes the data set's rows to a store.</summary>
    /// <exception cref="InvalidDataException">A row is invalid and that is an error, a file cannot be read further, or there are no
    /// rows.</exception>
    /// <exception cref="IOException">A file is missing or cannot be read.</exception>
    internal void Write(Stream destination)
    {
        var writer = new TokenStoreWriter(destination);
        foreach (var path in DataFile.Files(_source))
        {
            if (_source.Limit is { } limit && _rows >= limit)
            {
                break;
            }

            File(path, writer);
        }

        if (_rows == 0)
        {
            throw new InvalidDataException(_badRows > 0
                ? $"{Name}: {(_badRows == 1 ? "its only row is bad" : $"all {_badRows} rows are bad; the first")}: {_badExamples[0]}"
                : _leftOut > 0 ? $"{Name}: {_files[0].Format} made no row of the {_leftOut} that are in this {(_files.Count > 1 ? "data set" : "file")}."
                : $"{Name}: this {(_files.Count > 1 ? "data set" : "file")} contains no rows.");
        }

        writer.Finish(new StoreFacts { Files = _files, BadRows = _badRows, BadExamples = _badExamples, Warnings = [.. _tokenizer.Warnings, .. Together()], Tokens = writer.Tokens, Labels = writer.Labels });
    }

    private IEnumerable<string> Together() => _together == 0 ? [] :
    [
        $"{Name}: in {_together} of {_rows} rows there is no white space between prompt and completion (first: {_togetherExample}), so they run together; "
        + "set the data set's separator (`train: [ { path: FILE, separator: \" \" } ]`, or --separator \" \" of a command) to the text between them, such as \" \" or \"\\n\", or to \"\" if this is intended.",
    ];

    private string Name => _source.Path.Length > 0 ? _source.Path : "query";

    private void File(string path, TokenStoreWriter writer)
    {
        var (before, number, unit) = (_rows, _files.Count, RowUnit.Line);
        IRowFormat? format = null;
        var waiting = new Queue<Task<Made[]>>();
        var limit = _source.Limit ?? int.MaxValue;
        foreach (var batch in Batches(DataFile.Rows(path, _source)))
        {
            unit = batch[0].Place.Unit;
            format ??= Format(batch);
            if (format is { } known)
            {
                waiting.Enqueue(Task.Run(() => Array.ConvertAll(batch, r => Make(r, known))));
            }

            while (waiting.Count > 2 * Environment.ProcessorCount)
            {
                Take(waiting.Dequeue(), writer, number, limit);
            }

            if (_rows >= limit)
            {
                break;
            }
        }

        while (waiting.TryDequeue(out var made))
        {
            Take(made, writer, number, limit);
        }

        _files.Add(new StoreFile(path, format?.Name ?? "no rows", _rows - before, unit));
    }

    // Null if every row of the batch is bad; they are counted in that case.
    private IRowFormat? Format(RawRow[] batch)
    {
        var bad = new List<string>();
        foreach (var raw in batch)
        {
            DataRow row, asRead;
            try
            {
                asRead = raw.Parse();
                row = _fields.Apply(asRead);
            }
            catch (InvalidDataException e)
            {
                bad.Add(_skipBad ? e.Message : throw new InvalidDataException(e.Message, e));
                continue;
            }

            return RowFormats.Of(_source, row, asRead, _promptsAlone ? RowKind.Prompts : _tokenizer.Kind);
        }

        bad.ForEach(Bad);
        return null;
    }

    private Made Make(RawRow raw, IRowFormat format)
    {
        try
        {
            var asRead = raw.Parse();
            var named = _fields.Apply(asRead);
            var rows = _promptsAlone ? [PromptFormat.Alone(format, named, asRead, _tokenizer)] : format.Read(named, _tokenizer);
            foreach (var row in rows)
            {
                Check(row);
            }

            return new Made(rows, [.. rows.Select(static r => RowHash.Of(r))], raw.Place.Number, null) { Together = !_promptsAlone && format.Name is "completion" or "preference" && _fields.RunsTogether(named) ? raw.Place.ToString() : null };
        }
        catch (Exception e) when (e is InvalidDataException or ChatTemplateException { Kind: not ChatTemplateErrorKind.Syntax } or InvalidOperationException or ArgumentException or FormatException)
        {
            // Errors that the JSON reader reports late (such as unpaired surrogates in a text) do not name the row.
            return new Made([], [], raw.Place.Number, e is InvalidDataException ? e.Message : $"{raw.Place}: {e.Message}");
        }
    }

    private void Take(Task<Made[]> task, TokenStoreWriter writer, int file, int limit)
    {
        foreach (var made in task.GetAwaiter().GetResult())
        {
            if (_rows >= limit)
            {
                return;
            }

            if (made.Problem is { } problem)
            {
                Bad(problem);
            }

            _rows += made.Rows.Count > 0 ? 1 : 0;
            _leftOut += made.Rows.Count == 0 && made.Problem is null ? 1 : 0;
            _together += made.Together is null ? 0 : 1;
            _togetherExample ??= made.Together;
            for (var i = 0; i < made.Rows.Count; i++)
            {
                writer.Add(made.Rows[i], made.Hashes[i], file, made.Number);
            }
        }
    }

    private void Bad(string problem)
    {
        if (!_skipBad)
        {
            throw new InvalidDataException(problem);
        }

        _badRows++;
        if (_badExamples.Count < ExamplesKept)
        {
            _badExamples.Add(problem);
        }
    }

    private static IEnumerable<RawRow[]> Batches(IEnumerable<RawRow> rows)
    {
        var (batch, bytes) = (new List<RawRow>(), 0L);
        foreach (var row in rows)
        {
            batch.Add(row);
            bytes += row.Content.Size;
            if (batch.Count == BatchRows || bytes >= BatchBytes)
            {
                yield return [.. batch];
                batch.Clear();
                bytes = 0;
            }
        }

        if (batch.Count > 0)
        {
            yield return [.. batch];
        }
    }

    private void Check(TokenRow row)
    {
        var bad = row.Ids.AsSpan().IndexOfAnyExceptInRange(0, _vocabularySize - 1);
        if (bad >= 0)
        {
            throw new InvalidDataException($"{row.Source}: token id {row.Ids[bad]} at index {bad} is not one of the model's {_vocabularySize} tokens; check that tokenizer and model belong together.");
        }

        bad = Array.FindIndex(row.Labels, id => id >= _vocabularySize);
        if (bad >= 0)
        {
            throw new InvalidDataException($"{row.Source}: label {row.Labels[bad]} at index {bad} is not one of the model's {_vocabularySize} tokens.");
        }
    }

    private sealed record Made(IReadOnlyList<TokenRow> Rows, ulong[] Hashes, long Number, string? Problem)
    {
        /// <summary>The position of a row without white space between prompt and completion; null for others.</summary>
        public string? Together { get; init; }
    }
}
