using System.Diagnostics.CodeAnalysis;
using Microsoft.Win32.SafeHandles;

namespace OpenWeights.Formats.Safetensors;

/// <summary>
/// A safetensors file (<see href="https://github.com/huggingface/safetensors#format"/>), opened for reading. The header is checked
/// completely on opening; the tensors' bytes are read when they are asked for.
/// </summary>
/// <remarks>Any number of threads and processes may read one file at once. It is opened for reading and shared; nothing here changes it.</remarks>
public sealed class SafetensorsFile : IWeightFile
{
    private readonly SafeFileHandle file;
    private readonly Dictionary<string, TensorEntry> byName;

    private SafetensorsFile(string path, SafeFileHandle file, Func<string, string>? rename)
    {
        this.file = file;
        Location = path;
        var header = SafetensorsHeader.Read(path, file);
        Metadata = header.Metadata;
        Tensors = rename is null ? header.Tensors : [.. header.Tensors.Select(tensor => tensor.Renamed(rename(tensor.Name)))];
        byName = Tensors.ToDictionary(tensor => tensor.Name, StringComparer.Ordinal);
    }

    /// <summary>The file's path, as it was given.</summary>
    public string Location { get; }

    /// <inheritdoc/>
    public IReadOnlyList<TensorEntry> Tensors { get; }

    /// <summary>The texts under <c>__metadata__</c>, in the file's order; null where the file has none.</summary>
    public IReadOnlyDictionary<string, string>? Metadata { get; }

    /// <summary>Opens a file and checks its header, the tensors' places and the file's length.</summary>
    /// <param name="path">The file.</param>
    /// <param name="rename">The name of a tensor for its name in the file; null for the same.</param>
    /// <returns>The open file; dispose it.</returns>
    /// <exception cref="FileNotFoundException">The file does not exist.</exception>
    /// <exception cref="InvalidDataException">It is not a whole, valid safetensors file; the message names file and tensor and says
    /// what to do.</exception>
    /// <exception cref="IOException">The disk failed, or another program has the file locked.</exception>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    public static SafetensorsFile Open(string path, Func<string, string>? rename = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
        {
            throw new InvalidDataException($"{path} is a folder; give the .safetensors file in it");
        }

        if (!File.Exists(path))
        {
            throw new FileNotFoundException($"{path} does not exist; check the path or download the file", path);
        }

        var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        try
        {
            return new SafetensorsFile(path, file, rename);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public bool TryGetTensor(string name, [NotNullWhen(true)] out TensorEntry? entry) => byName.TryGetValue(name, out entry);

    /// <inheritdoc/>
    public void CopyTo(string name, long offset, Span<byte> destination)
    {
        ObjectDisposedException.ThrowIf(file.IsClosed, this);
        var entry = this.GetTensor(name);
        PositionedRead.RequirePart(entry.ByteLength, offset, destination.Length, name);

        if (PositionedRead.Fill(file, destination, entry.FileOffset + offset) < destination.Length)
        {
            throw BecameShorter(name);
        }
    }

    /// <summary>Closes the file; every later access to its bytes is refused.</summary>
    public void Dispose() => file.Dispose();

    private InvalidDataException BecameShorter(string tensor) => new(
        $"{Location}: the file has become shorter since it was opened, and the tensor {Wording.Quote(tensor)} cannot be read; "
        + Wording.DamagedAdvice);
}
