using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Data;

/// <summary>Applies data.over_length and data.untrained_rows.</summary>
internal sealed class LengthLimit(DataSection config, ContextLimit? room, SettingNames words)
{
    private const int ExamplesTold = 5;
    private readonly List<(string Place, int Length)> _worst = [];
    private readonly List<string> _untrainedPlaces = [];
    private int _tooLong;
    private int _beyondRoom;
    private int _rows;

    /// <summary>Maximum row length, in tokens.</summary>
    internal int Longest { get; } = Math.Min(config.MaxLength, room?.Tokens ?? int.MaxValue);

    /// <summary>Number of dropped rows.</summary>
    internal int Dropped { get; private set; }

    /// <summary>Number of truncated rows.</summary>
    internal int Truncated { get; private set; }

    /// <summary>Number of tokens removed by truncation.</summary>
    internal long TruncatedTokens { get; private set; }

    /// <summary>Number of split rows.</summary>
    internal int Split { get; private set; }

    /// <summary>Number of rows dropped because they have no trained tokens.</summary>
    internal int Untrained { get; private set; }

    /// <summary>The rows of a store within the limits.</summary>
    internal RowSlices Apply(TokenStore store)
    {
        var kept = new RowSlices();
        for (int row = 0, together; row < store.Count; row += together)
        {
            // Both answers of a pair are kept, or none.
            (together, var before) = (store.Entry(row).Role == RowRole.Chosen ? 2 : 1, kept.Count);
            for (var i = row; i < row + together; i++)
            {
                _rows++;
                Add(kept, store, i);
            }

            if (together == 2 && kept.Count != before + 2)
            {
                kept.CutTo(before);
            }
        }

        return kept;
    }

    /// <summary>Throws if the config does not allow the rows found.</summary>
    /// <exception cref="InvalidDataException">Rows are too long or have no trained tokens, and that is an error; or no row is left.</exception>
    internal void Require()
    {
        if (config.OverLength == "error" && _tooLong > 0)
        {
            var worst = _worst.OrderByDescending(static w => w.Length).Take(ExamplesTold).Select(static w => $"{w.Place} ({w.Length})");
            throw new InvalidDataException(
                $"{_tooLong} of {_rows} {(_rows == 1 ? "row is" : _tooLong == 1 ? "rows is" : "rows are")} longer than {Limit}: {string.Join(", ", worst)}{(_tooLong > ExamplesTold ? ", ..." : "")}. "
                + $"{Advice}set {words["data.over_length"]} to drop, truncate, or split (plain text).");
        }

        if (_rows > 0 && Dropped == _rows)
        {
            throw new InvalidDataException($"all {_rows} rows are longer than {Limit} and would be dropped; {(IsModels ? "" : "raise it, or ")}set {words["data.over_length"]} to truncate.");
        }

        if (Untrained > 0 && (config.UntrainedRows == "error" || Untrained + Dropped >= _rows))
        {
            throw new InvalidDataException(
                $"{(Untrained + Dropped >= _rows ? "all " : "")}{Untrained} of {_rows} {(_rows == 1 ? "row has" : Untrained == 1 ? "rows has" : "rows have")} no token to train: {string.Join(", ", _untrainedPlaces)}{(Untrained > ExamplesTold ? ", ..." : "")}. "
                + $"Check that each has an answer that {words["data.train_on"]} selects. (Truncation may have removed it.)"
                + (config.UntrainedRows == "error" ? $" {words["data.untrained_rows"]}: drop skips such rows." : ""));
        }
    }

    // Whether the limit is the model's, not the config's.
    private bool IsModels => room is { } model && model.Tokens < config.MaxLength;

    private string Limit => IsModels ? $"the model's context ({room!.Tokens} tokens, {room.Reason})" : $"{words["data.max_length"]} ({config.MaxLength} tokens)";

    // Raising data.max_length does not help a row that exceeds the model's context.
    private string Advice => IsModels ? $"Shorten the rows, set {words["model.max_positions"]} if the model supports more, or " : _beyondRoom > 0 ? "Shorten the rows, or " : $"Raise {words["data.max_length"]}, or ";

    private void Add(RowSlices kept, TokenStore store, int row)
    {
        ref readonly var entry = ref store.Entry(row);
        var tokens = entry.Role == RowRole.Related ? store.LongestText(row) : entry.Tokens;
        if (tokens <= Longest)
        {
            AddTrained(kept, new RowSlice(store, row, 0, entry.Tokens));
            return;
        }

        _tooLong++;
        _beyondRoom += tokens > (room?.Tokens ?? int.MaxValue) ? 1 : 0;
        switch (config.OverLength)
        {
            case "drop":
                Dropped++;
                break;
            case "truncate" when entry.Role == RowRole.Related:
                // Each text by itself, as it is read.
                Truncated++;
                TruncatedTokens += store.TokensBeyond(row, Longest);
                store.TextLimit = Longest;
                kept.Add(new RowSlice(store, row, 0, entry.Tokens));
                break;
            case "truncate":
                var length = CutAt(store, row);
                Truncated++;
                TruncatedTokens += entry.Tokens - length;
                AddTrained(kept, new RowSlice(store, row, 0, length));
                break;
            case "split":
                Divide(kept, store, row);
                break;
            default:
                Remember(store.Place(row), tokens);
                break;
        }
    }

    private void AddTrained(RowSlices kept, RowSlice slice)
    {
        if (slice.Targets > 0 || slice.Role is RowRole.Classified or RowRole.Related or RowRole.Prompt)
        {
            kept.Add(slice);
            return;
        }

        Untrained++;
        if (_untrainedPlaces.Count < ExamplesTold)
        {
            _untrainedPlaces.Add(slice.Store.Place(slice.Row));
        }
    }

    // After the last complete turn that fits, if anything before it is trained; otherwise within a turn.
    private int CutAt(TokenStore store, int row)
    {
        var ends = store.TurnEnds(row);
        for (var i = ends.Length - 1; i >= 0; i--)
        {
            if (ends[i] <= Longest && store.Targets(row, 0, ends[i]) > 0)
            {
                return ends[i];
            }
        }

        return Longest;
    }

    // The last token of a part is the first of the next, so that every token except the first is predicted once.
    private void Divide(RowSlices kept, TokenStore store, int row)
    {
        ref readonly var entry = ref store.Entry(row);
        var format = store.Facts.Files[entry.File].Format;
        if (format is not ("text" or "tokenized"))
        {
            throw new InvalidDataException($"{store.Place(row)}: {words["data.over_length"]} is split, but rows of the format {format} cannot be split; set drop or truncate.");
        }

        Split++;
        for (var start = 0; start < entry.Tokens - 1; start += Longest - 1)
        {
            var part = new RowSlice(store, row, start, Math.Min(Longest, entry.Tokens - start));
            if (part.Targets > 0)
            {
                kept.Add(part);
            }
        }
    }

    private void Remember(string place, int length)
    {
        _worst.Add((place, length));
        if (_worst.Count > 1000)
        {
            _worst.Sort(static (a, b) => b.Length.CompareTo(a.Length));
            _worst.RemoveRange(ExamplesTold, _worst.Count - ExamplesTold);
        }
    }
}
