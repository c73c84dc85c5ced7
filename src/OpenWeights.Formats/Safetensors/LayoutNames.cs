using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using OpenWeights.Formats.Families;

namespace OpenWeights.Formats.Safetensors;

/// <summary>Names of tensors in a family's usual checkpoints, and in its modules.</summary>
internal sealed class LayoutNames
{
    private const string Expert = "{e}";
    private readonly IReadOnlyList<(Regex Stored, string Module)> renames;
    private readonly IReadOnlyList<(Regex Module, string Stored)?> returns;
    private readonly IReadOnlyList<(Regex Name, TensorJoin Join, int Index)> pieces;

    /// <summary>Reads the differences of a layout.</summary>
    /// <param name="layout">The layout; null where names do not differ.</param>
    public LayoutNames(CheckpointLayout? layout)
    {
        renames = [.. (layout?.Renames ?? []).Select(static rename => (new Regex(rename.Stored, RegexOptions.CultureInvariant), rename.Module))];
        returns = [.. (layout?.Renames ?? []).Select(Return)];
        Joins = layout?.Joins ?? [];
        pieces = [.. Joins.SelectMany(static join => join.Pieces.Select((piece, index) => (Pattern(piece), join, index)))];
    }

    /// <summary>The differences that a layout makes for the tensors of a file: none where the names are the modules' own.</summary>
    /// <param name="layout">The layout; null where names do not differ.</param>
    /// <param name="stored">The names in the file.</param>
    public static LayoutNames Of(CheckpointLayout? layout, IReadOnlyList<string> stored)
    {
        var all = new LayoutNames(layout);
        var names = stored.ToArray();
        var renames = new List<TensorRename>();
        foreach (var (index, (pattern, module)) in all.renames.Index())
        {
            var before = names;
            names = Array.ConvertAll(names, name => pattern.Replace(name, module));
            if (!names.SequenceEqual(before))
            {
                renames.Add(layout!.Renames[index]);
            }
        }

        var joins = names.Select(name => all.Piece(name)?.Join).Where(static join => join is not null).ToHashSet();
        return new LayoutNames(layout is null ? null : layout with { Renames = renames, Joins = [.. all.Joins.Where(joins.Contains)] });
    }

    /// <summary>Tensors that are stored in pieces.</summary>
    public IReadOnlyList<TensorJoin> Joins { get; }

    /// <summary>Whether the pieces of a join are those of experts.</summary>
    public static bool IsByExpert(TensorJoin join) => join.Pieces[0].Contains(Expert, StringComparison.Ordinal);

    /// <summary>A piece's name with the index of an expert.</summary>
    public static string OfExpert(string piece, int expert) => piece.Replace(Expert, expert.ToString(CultureInfo.InvariantCulture), StringComparison.Ordinal);

    /// <summary>The name that a stored tensor has in the modules, or as a piece of one of their tensors.</summary>
    public string Module(string stored) => renames.Aggregate(stored, static (name, rename) => rename.Stored.Replace(name, rename.Module));

    /// <summary>What a tensor is a piece of, by its name after renaming; null if it is whole.</summary>
    public (string Whole, TensorJoin Join, int? Expert, int Index)? Piece(string name)
    {
        foreach (var (pattern, join, index) in pieces)
        {
            if (pattern.Match(name) is { Success: true } match)
            {
                int? expert = match.Groups["e"].Success ? int.Parse(match.Groups["e"].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture) : null;
                return (match.Groups["start"].Value + join.Whole, join, expert, index);
            }
        }

        return null;
    }

    /// <summary>The name that a module's tensor, or a piece of one, has in the family's usual checkpoints.</summary>
    public string Stored(string module)
    {
        var name = module;
        foreach (var back in returns.Reverse())
        {
            var stored = back is { } pair ? pair.Module.Replace(name, pair.Stored) : name;

            // A pattern may be more than one name's; only a name that leads back is the one.
            name = Module(stored) == module ? stored : name;
        }

        return Module(name) == module ? name : module;
    }

    /// <summary>What stands in the family's usual checkpoints for a module's tensor, for messages.</summary>
    public string Description(string module)
    {
        if (Joins.FirstOrDefault(join => module.EndsWith(join.Whole, StringComparison.Ordinal)) is not { } join)
        {
            return Stored(module);
        }

        var names = join.Pieces.Select(piece => Stored(module[..^join.Whole.Length] + OfExpert(piece, 0)));
        return string.Join(" and ", names) + (IsByExpert(join) ? ", and those of the other experts," : "");
    }

    /// <summary>What the family's usual checkpoints store for a module's tensor.</summary>
    public IReadOnlyList<StoredPart> PartsOf(string module, IReadOnlyList<long> shape)
    {
        var join = Joins.FirstOrDefault(join => module.EndsWith(join.Whole, StringComparison.Ordinal));
        if (join is null || shape.Count < (IsByExpert(join) ? 2 : 1))
        {
            return [new StoredPart(Stored(module), shape, 0)];
        }

        // A tensor is divided as torch.chunk does: the last piece is the smaller one.
        var (experts, inner) = IsByExpert(join) ? (shape[0], shape.Skip(1).ToArray()) : (1, [.. shape]);
        var (rows, width, parts) = ((inner[0] + join.Pieces.Count - 1) / join.Pieces.Count, inner.Skip(1).Aggregate(1L, static (product, size) => product * size), new List<StoredPart>());
        for (var expert = 0; expert < experts; expert++)
        {
            for (var index = 0; index < join.Pieces.Count; index++)
            {
                var name = Stored(module[..^join.Whole.Length] + OfExpert(join.Pieces[index], expert));
                parts.Add(new StoredPart(name, [Math.Min(rows, inner[0] - (rows * index)), .. inner.Skip(1)], ((expert * inner[0]) + (rows * index)) * width));
            }
        }

        return parts;
    }

    private static Regex Pattern(string piece) =>
        new("^(?<start>.*)" + string.Join("(?<e>[0-9]+)", piece.Split(Expert).Select(Regex.Escape)) + "$", RegexOptions.CultureInvariant);

    // The rename in the other direction, where the pattern is made of plain characters, anchors and groups.
    private static (Regex Module, string Stored)? Return(TensorRename rename)
    {
        var groups = Groups(rename.Stored, out var text);
        if (text is null)
        {
            return null;
        }

        var pattern = Regex.Replace(Regex.Escape(rename.Module), @"\\\$(?:\{)?([0-9]+)\}?", match =>
            int.Parse(match.Groups[1].ValueSpan, CultureInfo.InvariantCulture) is var number && number <= groups.Count ? groups[number - 1] : match.Value);
        return (new Regex((rename.Stored.StartsWith('^') ? "^" : "") + pattern + (rename.Stored.EndsWith('$') ? "$" : ""), RegexOptions.CultureInvariant), text);
    }

    // The groups of a pattern, and the pattern as a replacement; null where it has other operators.
    private static List<string> Groups(string pattern, out string? replacement)
    {
        var (groups, text) = (new List<string>(), new StringBuilder());
        replacement = null;
        for (var i = 0; i < pattern.Length; i++)
        {
            switch (pattern[i])
            {
                case '^' when i == 0:
                case '$' when i == pattern.Length - 1:
                    break;
                case '\\' when i + 1 < pattern.Length && !char.IsLetterOrDigit(pattern[i + 1]):
                    _ = text.Append(pattern[++i]);
                    break;
                case '(' when pattern.IndexOf(')', i) is var end and > 0 && pattern.AsSpan(i + 1, end - i - 1).IndexOf('(') < 0 && pattern[i + 1] != '?':
                    groups.Add(pattern[i..(end + 1)]);
                    _ = text.Append(CultureInfo.InvariantCulture, $"${{{groups.Count}}}");
                    i = end;
                    break;
                case var plain when char.IsLetterOrDigit(plain) || plain is '_' or '-':
                    _ = text.Append(plain);
                    break;
                default:
                    return groups;
            }
        }

        replacement = text.ToString();
        return groups;
    }
}
