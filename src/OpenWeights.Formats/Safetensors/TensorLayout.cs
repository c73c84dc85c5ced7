using OpenWeights.Formats.Families;

namespace OpenWeights.Formats.Safetensors;

/// <summary>How the tensors of a model's modules lie in its files: under which names, and in which pieces.</summary>
internal sealed class TensorLayout
{
    private readonly Dictionary<string, List<TensorPiece>> moduleOf = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<TensorPiece>> storedOf = new(StringComparer.Ordinal);
    private readonly List<TensorEntry> tensors = [];
    private readonly Dictionary<string, IReadOnlyList<string>> missing = new(StringComparer.Ordinal);

    private readonly List<TensorEntry> others = [];
    private readonly Func<string, bool>? isRead;

    private TensorLayout(Func<string, bool>? isRead) => this.isRead = isRead;

    /// <summary>The tensors of the modules, in the order of their first pieces.</summary>
    public IReadOnlyList<TensorEntry> Tensors => tensors;

    /// <summary>Tensors that cannot be put together, each with the names of the pieces that the files lack.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<string>> Missing => missing;

    /// <summary>Stored tensors that are not of the model that is read.</summary>
    public IReadOnlyList<TensorEntry> OtherParts => others;

    /// <summary>The pieces of a module's tensor, in its order.</summary>
    public IReadOnlyList<TensorPiece> Of(string module) => moduleOf[module];

    /// <summary>What a stored tensor holds, in its order; empty if it is not read, or belongs to a tensor that cannot be put together.</summary>
    public IReadOnlyList<TensorPiece> Holds(string stored) => storedOf.GetValueOrDefault(stored) ?? [];

    /// <summary>The layout of stored tensors.</summary>
    /// <param name="stored">The tensors of all files.</param>
    /// <param name="usual">How the family's checkpoints usually are; null where they are as the modules.</param>
    /// <param name="isRead">Whether a tensor, by its name in the modules, is one of the model that is read; null if all are.</param>
    /// <exception cref="InvalidDataException">Pieces of one tensor do not fit together, or two tensors are one module's.</exception>
    public static TensorLayout Of(IReadOnlyList<TensorEntry> stored, CheckpointLayout? usual, Func<string, bool>? isRead)
    {
        var layout = new TensorLayout(isRead);
        layout.Join(stored, usual ?? new CheckpointLayout([], []));
        foreach (var pieces in layout.storedOf.Values)
        {
            pieces.Sort(static (one, other) => one.StoredFirst.CompareTo(other.StoredFirst));
        }

        return layout;
    }

    private void Join(IReadOnlyList<TensorEntry> stored, CheckpointLayout differences)
    {
        var names = new LayoutNames(differences);
        var joined = new Dictionary<string, JoinedTensor>(StringComparer.Ordinal);
        var whole = new List<(TensorEntry? Entry, JoinedTensor? Joined, string Name)>();
        foreach (var entry in stored)
        {
            var name = names.Module(entry.Name);
            if (isRead?.Invoke(name) == false || differences.OtherParts.Any(start => entry.Name.StartsWith(start, StringComparison.Ordinal)))
            {
                others.Add(entry);
                continue;
            }

            if (names.Piece(name) is not { } piece)
            {
                whole.Add((entry, null, name));
                continue;
            }

            if (!joined.TryGetValue(piece.Whole, out var tensor))
            {
                joined.Add(piece.Whole, tensor = new JoinedTensor(piece.Whole, piece.Join));
                whole.Add((null, tensor, piece.Whole));
            }

            tensor.Add(piece.Expert, piece.Index, entry);
        }

        foreach (var (entry, tensor, name) in whole)
        {
            if (tensor is null)
            {
                Add(Renamed(entry!, name), [new TensorPiece(entry!.Name, 0, name, 0, entry.ElementCount)]);
            }
            else if (tensor.Missing(names).ToList() is { Count: > 0 } lacking)
            {
                missing.Add(name, lacking);
            }
            else
            {
                var (module, pieces) = tensor.Put();
                Add(module, pieces);
            }
        }
    }

    private void Add(TensorEntry module, List<TensorPiece> pieces)
    {
        if (!moduleOf.TryAdd(module.Name, pieces))
        {
            throw new InvalidDataException(
                $"{module.FilePath}: {Wording.Quote(pieces[0].Stored)} and {Wording.Quote(moduleOf[module.Name][0].Stored)} are both the model's {module.Name}; download the files again, all from one revision");
        }

        tensors.Add(module);
        foreach (var piece in pieces)
        {
            if (!storedOf.TryGetValue(piece.Stored, out var held))
            {
                storedOf.Add(piece.Stored, held = []);
            }

            held.Add(piece);
        }
    }

    private static TensorEntry Renamed(TensorEntry entry, string name) =>
        name == entry.Name ? entry : new TensorEntry(name, entry.DType, entry.Shape, entry.ByteLength, entry.FilePath, entry.FileOffset) { IsQuantized = entry.IsQuantized };
}

/// <summary>A run of elements that a stored tensor and a module's tensor have in common.</summary>
/// <param name="Stored">Name of the stored tensor.</param>
/// <param name="StoredFirst">Its first element in the stored tensor.</param>
/// <param name="Module">Name of the module's tensor.</param>
/// <param name="ModuleFirst">Its first element in the module's tensor.</param>
/// <param name="Count">The number of elements.</param>
public readonly record struct TensorPiece(string Stored, long StoredFirst, string Module, long ModuleFirst, long Count);

/// <summary>A tensor that is stored in pieces: of each expert, or of the one tensor, one for each of the join's names.</summary>
internal sealed class JoinedTensor(string name, TensorJoin join)
{
    private readonly SortedDictionary<(int Expert, int Index), TensorEntry> pieces = [];

    public void Add(int? expert, int index, TensorEntry entry)
    {
        if (!pieces.TryAdd((expert ?? 0, index), entry))
        {
            throw new InvalidDataException($"{entry.FilePath}: {Wording.Quote(entry.Name)} and {Wording.Quote(pieces[(expert ?? 0, index)].Name)} are the same part of the model's {name}; download the files again, all from one revision");
        }
    }

    /// <summary>Names of the pieces that are not there, as the file would have them.</summary>
    public IEnumerable<string> Missing(LayoutNames names)
    {
        var prefix = name[..^join.Whole.Length];
        var experts = pieces.Keys.Max(static key => key.Expert) + 1;
        for (var expert = 0; expert < experts; expert++)
        {
            for (var index = 0; index < join.Pieces.Count; index++)
            {
                if (!pieces.ContainsKey((expert, index)))
                {
                    yield return names.Stored(prefix + LayoutNames.OfExpert(join.Pieces[index], expert));
                }
            }
        }
    }

    /// <summary>The tensor, put together.</summary>
    /// <exception cref="InvalidDataException">The pieces differ in type or size.</exception>
    public (TensorEntry Module, List<TensorPiece> Pieces) Put()
    {
        var first = pieces.Values.First();
        var places = new List<TensorPiece>(pieces.Count);
        var at = 0L;
        foreach (var (key, entry) in pieces)
        {
            // Experts are alike; pieces of one expert may differ in the dimension that they are joined along.
            var alike = pieces[(0, key.Index)];
            if (entry.DType != first.DType || entry.Shape.Count == 0 || !entry.Shape.Skip(1).SequenceEqual(first.Shape.Skip(1)) || entry.Shape[0] != alike.Shape[0])
            {
                throw new InvalidDataException($"{entry.FilePath}: {entry} does not fit beside {(entry.Shape.SequenceEqual(alike.Shape) ? first : alike)}, with which it makes up the model's {name}; download the files again, all from one revision");
            }

            places.Add(new TensorPiece(entry.Name, 0, name, at, entry.ElementCount));
            at += entry.ElementCount;
        }

        var rows = Enumerable.Range(0, join.Pieces.Count).Sum(index => pieces[(0, index)].Shape[0]);
        long[] shape = LayoutNames.IsByExpert(join) ? [pieces.Count / join.Pieces.Count, rows, .. first.Shape.Skip(1)] : [rows, .. first.Shape.Skip(1)];
        var bytes = pieces.Values.Sum(static entry => entry.ByteLength);
        return (new TensorEntry(name, first.DType, shape, bytes, first.FilePath, first.FileOffset) { IsQuantized = pieces.Values.Any(static entry => entry.IsQuantized) }, places);
    }
}
