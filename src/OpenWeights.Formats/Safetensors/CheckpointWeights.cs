using System.Diagnostics.CodeAnalysis;
using OpenWeights.Formats.Families;
using OpenWeights.Formats.Gguf;
using OpenWeights.Formats.Quantized;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// The weights of a model folder as one list of tensors: <c>model.safetensors</c>, or all shards that
/// <c>model.safetensors.index.json</c> names, or a GGUF file that the folder stands for (<see cref="GgufFolder"/>). If both of the first two exist, the single file is read, as transformers does.
/// </summary>
public sealed class CheckpointWeights : ITensorSource, IDisposable
{
    /// <summary>The metadata key that names the quantisation that the values, stored in full, once went through.</summary>
    public const string QuantizedValuesKey = "quantized_values";

    private readonly List<IWeightFile> files;
    private readonly StoredTensors held;
    private readonly UnpackedTensors? unpacked;
    private readonly ITensorSource stored;
    private readonly WeightReading reading;
    private readonly TensorLayout layout;
    private readonly Dictionary<string, TensorEntry> byName = new(StringComparer.Ordinal);

    private CheckpointWeights(string folder, List<IWeightFile> files, CheckpointIndex? index, WeightReading reading)
    {
        Location = folder;
        this.files = files;
        this.reading = reading;
        HoldsQuantizedValues = files.OfType<SafetensorsFile>().Any(static file => file.Metadata?.ContainsKey(QuantizedValuesKey) == true);
        UnindexedTensors = index is null ? [] : CheckAgainstIndex(index, files);
        held = new StoredTensors(folder, files, UnindexedTensors);
        unpacked = reading.Format is null ? null : new UnpackedTensors(held, reading.Format);
        stored = unpacked is null ? held : unpacked;
        Quantization = reading.Format?.Description;
        layout = TensorLayout.Of(stored.Tensors, reading.Usual, reading.IsRead);
        foreach (var entry in layout.Tensors)
        {
            byName.Add(entry.Name, entry);
        }

        Names = LayoutNames.Of(reading.Usual, [.. stored.Tensors.Select(static entry => entry.Name)]);
    }

    /// <summary>The folder, as it was given.</summary>
    public string Location { get; }

    /// <summary>Whether the values were quantised before and are stored in full again, so that they differ from the original model's.</summary>
    public bool HoldsQuantizedValues { get; }

    /// <inheritdoc/>
    public IReadOnlyList<TensorEntry> Tensors => layout.Tensors;

    /// <summary>The tensors under the names, and in the pieces, that the files have; in a multimodal model those of all its parts. Quantised
    /// weights are there as if they were stored in full, as float32.</summary>
    public ITensorSource Stored => stored;

    /// <summary>How weights are quantised in the files, such as "gptq: 4 bits, groups of 128"; null if they are not.</summary>
    public string? Quantization { get; }

    /// <summary>The weights that the files hold quantised.</summary>
    public IEnumerable<PackedTensor> PackedTensors => unpacked?.Packed ?? [];

    /// <summary>The stored tensors of a multimodal model's other parts, which are not in <see cref="Tensors"/>.</summary>
    public IReadOnlyList<TensorEntry> OtherParts => layout.OtherParts;

    /// <summary>Tensors of the model that are stored in pieces of which some are missing, with the names of those.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<string>> MissingPieces => layout.Missing;

    // Names in the files, and in the model, as far as they differ in these files.
    private LayoutNames Names { get; }

    /// <summary>The files that hold the weights, in order.</summary>
    public IReadOnlyList<string> FilePaths => [.. files.Select(file => file.Location)];

    /// <summary>The size of all tensors together, in bytes.</summary>
    public long ByteLength => held.Tensors.Sum(tensor => tensor.ByteLength);

    /// <summary>Names of tensors that a shard contains but the index does not name. They are not in <see cref="Tensors"/>;
    /// worth a warning.</summary>
    public IReadOnlyList<string> UnindexedTensors { get; }

    /// <summary>Opens the weights of a folder and checks every file's header, and the shards against their index.</summary>
    /// <param name="folder">The folder.</param>
    /// <returns>The open weights; dispose them.</returns>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    /// <exception cref="FileNotFoundException">The folder has no weights that can be read (the message says what it has instead),
    /// or shards are missing.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, or shards and index do not agree; the message names files and
    /// tensors.</exception>
    public static CheckpointWeights Open(string folder) => Open(folder, new WeightReading(null, null, null));

    /// <summary>As <see cref="Open(string)"/>, with the tensors under the names and in the shapes of the family's modules.</summary>
    internal static CheckpointWeights Open(string folder, CheckpointLayout? usual) => Open(folder, new WeightReading(usual, null, null));

    /// <summary>As <see cref="Open(string)"/>, with the tensors under the names and in the shapes of the family's modules.</summary>
    internal static CheckpointWeights Open(string folder, WeightReading reading)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        if (!Directory.Exists(folder))
        {
            throw new DirectoryNotFoundException($"{folder} is not a folder; give a model's folder");
        }

        if (File.Exists(Path.Combine(folder, CheckpointNames.Single)))
        {
            return Of(folder, OpenAll(folder, [CheckpointNames.Single]), null, reading);
        }

        var indexPath = Path.Combine(folder, CheckpointNames.Index);
        if (File.Exists(indexPath))
        {
            return OpenSharded(folder, CheckpointIndex.Read(indexPath), reading);
        }

        return GgufFolder.Target(folder) is { } file ? new CheckpointWeights(folder, [GgufWeights.Open(file)], index: null, reading) : throw NoWeights.In(folder);
    }

    /// <summary>Whether a folder has weights that <see cref="Open(string)"/> takes; nothing is read.</summary>
    /// <param name="folder">The folder.</param>
    public static bool ExistIn(string folder) =>
        File.Exists(Path.Combine(folder, CheckpointNames.Single)) || File.Exists(Path.Combine(folder, CheckpointNames.Index))
        || File.Exists(Path.Combine(folder, GgufFolder.PointerName));

    /// <inheritdoc/>
    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry) => byName.TryGetValue(name, out entry);

    /// <inheritdoc/>
    public void CopyTo(string name, long offset, Span<byte> destination)
    {
        var entry = this.GetTensor(name);
        PositionedRead.RequirePart(entry.ByteLength, offset, destination.Length, name);
        var (pieces, bits) = (layout.Of(name), entry.DType.BitSize());
        for (var i = FirstAt(pieces, offset, bits); destination.Length > 0; i++)
        {
            var (from, within) = (pieces[i].StoredFirst * bits / 8, offset - (pieces[i].ModuleFirst * bits / 8));
            var count = (int)Math.Min(destination.Length, (pieces[i].Count * bits / 8) - within);
            stored.CopyTo(pieces[i].Stored, from + within, destination[..count]);
            offset += count;
            destination = destination[count..];
        }
    }

    /// <summary>The parts of a tensor by the names under which they are stored, in order.</summary>
    /// <param name="name">The tensor.</param>
    /// <exception cref="InvalidDataException">There is no such tensor.</exception>
    public IReadOnlyList<TensorPiece> PiecesOf(string name) => layout.Of(this.GetTensor(name).Name);

    /// <summary>The quantised weight that a tensor is stored as, or a part of; null if it is stored in full.</summary>
    /// <param name="storedName">The name under which it is stored (<see cref="PiecesOf"/>).</param>
    public PackedTensor? PackedOf(string storedName) => unpacked?.Find(storedName);

    /// <summary>The blocks of a GGUF file that a tensor is stored as, or a part of; null if it is stored otherwise.</summary>
    /// <param name="storedName">The name under which it is stored (<see cref="PiecesOf"/>).</param>
    public GgufMatrix? BlocksOf(string storedName) => files.OfType<GgufWeights>().Select(file => file.MatrixOf(storedName)).FirstOrDefault(static matrix => matrix is not null);

    /// <summary>The name that a tensor which is not there would have in the files; of one that is stored in pieces, a description.</summary>
    /// <param name="name">The tensor's name in the model.</param>
    public string StoredName(string name) => Names.Description(name);

    /// <summary>The parts of the model's tensors that a stored tensor holds, in order; none of another part of a multimodal model, or if its
    /// tensor lacks other pieces.</summary>
    /// <param name="storedName">The tensor's name in the files.</param>
    public IReadOnlyList<TensorPiece> HeldBy(string storedName) => layout.Holds(storedName);

    /// <summary>The weights of a model whose layers are copies of this one's, in another order and number. They are read from this one's files.</summary>
    /// <param name="layers">What the names of the layers' tensors begin with in the modules, such as model.layers.</param>
    /// <param name="order">For each layer the one of this model that it is a copy of.</param>
    /// <returns>The weights, valid as long as these are open.</returns>
    public CheckpointWeights WithLayers(string layers, IReadOnlyList<int> order)
    {
        ArgumentNullException.ThrowIfNull(order);
        var start = $"{layers}.0.";
        var first = Tensors.Select(static entry => entry.Name).FirstOrDefault(name => name.StartsWith(start, StringComparison.Ordinal))
            ?? throw new InvalidDataException($"{Location} has no tensors of {layers}.0; is it the right model?");
        var name = PiecesOf(first)[0].Stored;
        return new CheckpointWeights(Location, [new CopiedLayers(held, name[..(name.IndexOf(".0.", StringComparison.Ordinal) + 1)], order)], index: null, reading);
    }

    /// <summary>Closes all files; see <see cref="SafetensorsFile.Dispose"/>.</summary>
    public void Dispose() => files.ForEach(file => file.Dispose());

    // The last piece that begins at the byte or before it.
    private static int FirstAt(IReadOnlyList<TensorPiece> pieces, long offset, int bits)
    {
        var (low, high) = (0, pieces.Count - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            (low, high) = pieces[middle].ModuleFirst * bits / 8 <= offset ? (middle, high) : (low, middle - 1);
        }

        return low;
    }

    private static CheckpointWeights OpenSharded(string folder, CheckpointIndex index, WeightReading reading)
    {
        var missing = index.Shards.Where(shard => !File.Exists(Path.Combine(folder, shard))).ToList();
        if (missing.Count > 0)
        {
            throw new FileNotFoundException(
                $"{folder} lacks {missing.Count} of the {index.Shards.Count} shards that {CheckpointNames.Index} names: "
                    + $"{Wording.List(missing)}; download them",
                Path.Combine(folder, missing[0]));
        }

        return Of(folder, OpenAll(folder, index.Shards), index, reading);
    }

    private static CheckpointWeights Of(string folder, List<IWeightFile> files, CheckpointIndex? index, WeightReading reading)
    {
        try
        {
            return new CheckpointWeights(folder, files, index, reading);
        }
        catch
        {
            files.ForEach(file => file.Dispose());
            throw;
        }
    }

    private static List<IWeightFile> OpenAll(string folder, IReadOnlyList<string> names)
    {
        var files = new List<IWeightFile>();
        try
        {
            foreach (var name in names)
            {
                files.Add(SafetensorsFile.Open(Path.Combine(folder, name)));
            }

            return files;
        }
        catch
        {
            files.ForEach(file => file.Dispose());
            throw;
        }
    }

    /// <summary>Refuses shards that disagree with their index, all faults at once; gives the tensors that the index does not
    /// know.</summary>
    private static List<string> CheckAgainstIndex(CheckpointIndex index, List<IWeightFile> files)
    {
        var holders = files
            .SelectMany(file => file.Tensors.Select(tensor => (tensor.Name, Shard: Path.GetFileName(file.Location))))
            .ToLookup(held => held.Name, held => held.Shard, StringComparer.Ordinal);
        var problems = holders
            .Where(held => held.Count() > 1)
            .Select(held => $"{Wording.Quote(held.Key)} is in {string.Join(" and in ", held)}")
            .ToList();
        foreach (var (tensor, shard) in index.ShardOf)
        {
            var held = holders[tensor].ToList();
            if (held.Count == 0)
            {
                problems.Add($"{Wording.Quote(tensor)} is not in {shard}, nor in any other shard");
            }
            else if (!held.Contains(shard))
            {
                problems.Add($"{Wording.Quote(tensor)} is in {held[0]} and not in {shard}");
            }
        }

        return problems.Count == 0
            ? [.. holders.Select(held => held.Key).Where(name => !index.ShardOf.ContainsKey(name))]
            : throw new InvalidDataException($"{index.Path} does not agree with its shards: {Wording.List(problems)}; "
                + "download index and shards again, all from one revision");
    }
}

/// <summary>How the tensors of files become those of a model's modules.</summary>
/// <param name="Usual">How the family's checkpoints usually are; null where they are as the modules.</param>
/// <param name="IsRead">Whether a tensor, by its name in the modules, is one of the model that is read; null if all are.</param>
/// <param name="Format">How weights are quantised; null if they are not.</param>
internal sealed record WeightReading(CheckpointLayout? Usual, Func<string, bool>? IsRead, IQuantizedFormat? Format);

/// <summary>The tensors of several files, as the files have them.</summary>
internal sealed class StoredTensors : ITensorSource
{
    private readonly Dictionary<string, (IWeightFile File, TensorEntry Entry)> byName = new(StringComparer.Ordinal);
    private readonly List<TensorEntry> tensors = [];

    public StoredTensors(string location, IReadOnlyList<IWeightFile> files, IReadOnlyList<string> hidden)
    {
        Location = location;
        var left = hidden.ToHashSet(StringComparer.Ordinal);
        foreach (var file in files)
        {
            foreach (var entry in file.Tensors.Where(entry => !left.Contains(entry.Name)))
            {
                byName.Add(entry.Name, (file, entry));
                tensors.Add(entry);
            }
        }
    }

    public string Location { get; }

    public IReadOnlyList<TensorEntry> Tensors => tensors;

    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry)
    {
        var found = byName.TryGetValue(name, out var held);
        entry = held.Entry;
        return found;
    }

    public void CopyTo(string name, long offset, Span<byte> destination) => byName[this.GetTensor(name).Name].File.CopyTo(name, offset, destination);
}

/// <summary>Explains why a folder has no weights that can be opened, from the files that it has instead.</summary>
internal static class NoWeights
{
    private static readonly (string Pattern, string Reason)[] Known =
    [
        ("model-*-of-*.safetensors", $"has shards ({{0}}) but not their index {CheckpointNames.Index}; download the index"),
        ("pytorch_model*.bin",
            "has its weights only in PyTorch's own format ({0}); download the model's safetensors version or convert it to safetensors"),
        ("adapter_model.safetensors", "has an adapter ({0}) and no model; give the base model's folder, and this one as the adapter"),
        ("*.safetensors",
            $"has {{0}} but neither {CheckpointNames.Single} nor {CheckpointNames.Index}; download the files of the transformers version"),
        ("*.gguf", "has GGUF weights ({0}) and no safetensors; download the model's safetensors version"),
    ];

    /// <summary>The refusal for a folder without <c>model.safetensors</c> and without its index.</summary>
    public static FileNotFoundException In(string folder)
    {
        foreach (var (pattern, reason) in Known)
        {
            if (Directory.EnumerateFiles(folder, pattern).Order(StringComparer.Ordinal).FirstOrDefault() is { } found)
            {
                return Refusal(folder, reason.Replace("{0}", Path.GetFileName(found), StringComparison.Ordinal));
            }
        }

        return Refusal(folder, $"has no weights: neither {CheckpointNames.Single} nor {CheckpointNames.Index} is there; download them");
    }

    private static FileNotFoundException Refusal(string folder, string reason) =>
        new($"{folder} {reason}", Path.Combine(folder, CheckpointNames.Single));
}
