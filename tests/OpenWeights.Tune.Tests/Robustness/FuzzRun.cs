using System.Text;
using OpenWeights.Testing;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Reads inputs one after another and collects what no reader may do.</summary>
internal sealed class FuzzRun(FuzzedReader reader)
{
    private const int MostFaults = 8;

    private readonly List<string> _faults = [];
    private readonly HashSet<string> _kinds = [];
    private byte[] _input = [];
    private volatile int _current;
    private bool _refused;

    /// <summary>The number of the input that is being read.</summary>
    public int Current => _current;

    /// <summary>How many inputs were refused.</summary>
    public int Refused { get; private set; }

    /// <summary>The most managed memory that an input took beyond twice its size, in bytes.</summary>
    public long Most { get; private set; }

    /// <summary>What went wrong, one of each kind.</summary>
    public IReadOnlyList<string> Faults => _faults;

    /// <summary>The input that is being read, for a message.</summary>
    public string Shown => _input.Length > 3000 ? $"{_input.Length} bytes" : Encoding.UTF8.GetString(_input).Any(static c => char.IsControl(c) && c is not ('\n' or '\r' or '\t')) ? Convert.ToBase64String(_input) : Encoding.UTF8.GetString(_input);

    /// <summary>Reads a number of inputs.</summary>
    /// <param name="first">The number of the first.</param>
    /// <param name="count">How many.</param>
    public void Go(int first, int count)
    {
        using var folder = new TemporaryFolder();
        var inner = Path.Combine(folder.Root, "in");
        try
        {
            for (var i = first; i < first + count && _faults.Count < MostFaults; i++)
            {
                _ = Directory.CreateDirectory(inner);
                _current = i;
                Read(i, inner);
                Refused += _refused ? 1 : 0;
                if (folder.Names is not ["in"])
                {
                    Add("wrote outside", "the reader wrote outside its folder: " + string.Join(", ", folder.Names));
                }

                if (Directory.GetFileSystemEntries(inner).Length > 1 || Directory.GetDirectories(inner).Length > 0)
                {
                    Directory.Delete(inner, recursive: true);
                }
            }
        }
        catch (Exception error)
        {
            Add("harness", $"the making of input {_current} failed: {error}");
        }
    }

    private void Read(int number, string folder)
    {
        _input = reader.Make(new Mutation(number));
        var beyond = Cost(folder);
        if (beyond > reader.Constant)
        {
            // The first use of a part of the program may build tables for all others.
            beyond = Cost(folder);
        }

        Most = Math.Max(Most, beyond);
        if (beyond > reader.Constant)
        {
            Add("memory", $"{beyond:N0} bytes allocated beyond twice the input's size");
        }
    }

    // Reads the input; the memory taken beyond twice its size.
    private long Cost(string folder)
    {
        _refused = false;
        var before = GC.GetAllocatedBytesForCurrentThread();
        try
        {
            reader.Read(_input, folder);
        }
        catch (Exception error)
        {
            _refused = true;
            if (!reader.IsDocumented(error) || error.Message.Length < 8)
            {
                Add($"{error.GetType()} {error.StackTrace?.Split('\n').FirstOrDefault(static l => l.Contains("OpenWeights", StringComparison.Ordinal))}", error.ToString());
            }
        }

        return GC.GetAllocatedBytesForCurrentThread() - before - (2 * _input.Length);
    }

    private void Add(string kind, string what)
    {
        if (_kinds.Add(kind))
        {
            _faults.Add($"input {_current}: {what}\n---\n{Shown}\n---\n");
        }
    }
}
