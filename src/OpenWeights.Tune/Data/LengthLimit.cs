using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Data;

/// <summary>What data.over_length and data.untrained_rows do to rows.</summary>
internal sealed class LengthLimit(DataSection config, ContextLimit? room, SettingNames words)
{
    private const int ExamplesTold = 5;
    private readonly List<(string Place, int Length)> _worst = [];
    private readonly List<string> _untrainedPlaces = [];
    private int _tooLong;
    private int _beyondRoom;
    private int _rows;

    /// <summary>The longest row that passes, in tokens.</summary>
    internal int Longest { get; } = Math.Min(config.MaxLength, room?.Tokens ?? int.MaxValue);

    /// <summary>Rows left out.</summary>
    internal int Dropped { get; private set; }

    /// <summary>Rows cut.</summary>
    internal int Truncated { get; private set; }

    /// <summary>Tokens cut away.</summary>
    internal long TruncatedTokens { get; private set; }

    /// <summary>Rows made several of.</summary>
    internal int Split { get; private set; }

    /// <summary>Rows left out because nothing of them is trained.</summary>
    internal int Untrained { get; private set; }

    /// <summary>The rows of a store within the limits.</summary>
    internal RowSlices Apply(TokenStore store)
    {
        var kept = new RowSlices();
        for (int row = 0, together; row < store.Count; row += together)
        {
            // Of a pair both answers stay, or none.
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

    /// <summary>Refuses what the config does not let pass.</summary>
    /// <exception cref="InvalidDataException">Rows are too long, or nothing of them is trained, and that is an error; or no row is left.</exception>
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
                + $"Is there an answer in each, and does {words["data.train_on"]} name it? (Truncating may have cut it away.)"
                + (config.UntrainedRows == "error" ? $" {words["data.untrained_rows"]}: drop leaves such rows out." : ""));
        }
    }

    // Whether the model is what limits the rows, and not the config.
    private bool IsModels => room is { } model && model.Tokens < config.MaxLength;

    private string Limit => IsModels ? $"the model allows ({room!.Tokens} tokens, by {room.Reason})" : $"{words["data.max_length"]} ({config.MaxLength} tokens)";

    // Raising data.max_length does not help a row that the model has no room for.
    private string Advice => IsModels ? $"Shorten the rows, say with {words["model.max_positions"]} that the model can do more, or " : _beyondRoom > 0 ? "Shorten the rows, or " : $"Raise {words["data.max_length"]}, or ";

    private void Add(RowSlices kept, TokenStore store, int row)
    {
        ref readonly var entry = ref store.Entry(row);
        if (entry.Tokens <= Longest)
        {
            AddTrained(kept, new RowSlice(store, row, 0, entry.Tokens));
            return;
        }

        _tooLong++;
        _beyondRoom += entry.Tokens > (room?.Tokens ?? int.MaxValue) ? 1 : 0;
        switch (config.OverLength)
        {
            case "drop":
                Dropped++;
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
                Remember(store.Place(row), entry.Tokens);
                break;
        }
    }

    private void AddTrained(RowSlices kept, RowSlice slice)
    {
        if (slice.Targets > 0)
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

    // Behind the last whole turn that fits, where something is trained up to there; else in the middle of a turn.
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

    // The last token of a part is the first of the next, so that every token but the very first is predicted once.
    private void Divide(RowSlices kept, TokenStore store, int row)
    {
        ref readonly var entry = ref store.Entry(row);
        var format = store.Facts.Files[entry.File].Format;
        if (format is not ("text" or "tokenized"))
        {
            throw new InvalidDataException($"{store.Place(row)}: {words["data.over_length"]} is split, and this is a row of the format {format}, which makes no sense in parts; set drop or truncate.");
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
