using System.Runtime.InteropServices;

namespace OpenWeights.Tune.Distributed.Engines.Mpi;

/// <summary>
/// An installed MPI: Open MPI, MPICH (and Intel MPI, MVAPICH and others that keep its ABI), or any with MPI 5's own ABI. Their handles differ:
/// addresses of exported data, 32-bit numbers, numbers of a pointer's size; all are passed as numbers of a pointer's size, of which MPICH
/// reads the lower half.
/// </summary>
internal sealed unsafe class MpiLibrary
{
    /// <summary>Variable with the path of the library to load.</summary>
    internal const string PathVariable = "OWT_MPI";

    private const int MaxVersion = 8192;
    private const int MaxError = 1024;

    private readonly nint _library;
    private readonly string _file;
    private readonly delegate* unmanaged<void*, int, nint, int, int, nint, nint*, int> _send;
    private readonly delegate* unmanaged<void*, int, nint, int, int, nint, nint*, int> _receive;
    private readonly delegate* unmanaged<nint*, int*, nint, int> _test;
    private nint _world;
    private nint _byte;
    private nint _errorsReturn;
    private nint _statusIgnore;
    private int _funneled = 1;

    private MpiLibrary(nint library, string file)
    {
        (_library, _file) = (library, file);
        _send = (delegate* unmanaged<void*, int, nint, int, int, nint, nint*, int>)Export("MPI_Isend");
        _receive = (delegate* unmanaged<void*, int, nint, int, int, nint, nint*, int>)Export("MPI_Irecv");
        _test = (delegate* unmanaged<nint*, int*, nint, int>)Export("MPI_Test");
        Name = ChooseHandles(Version());
    }

    /// <summary>What it is: "Open MPI 4.1.4".</summary>
    internal string Name { get; }

    /// <summary>This rank, after <see cref="Initialize"/>.</summary>
    internal int Rank => Ask("MPI_Comm_rank");

    /// <summary>Number of ranks, after <see cref="Initialize"/>.</summary>
    internal int Size => Ask("MPI_Comm_size");

    /// <summary>Loads the MPI whose mpirun started this process, or the one in OWT_MPI.</summary>
    /// <param name="read">Value of a variable of the environment, or null.</param>
    /// <exception cref="RankFailedException">None can be loaded.</exception>
    internal static MpiLibrary Load(Func<string, string?> read)
    {
        string[] files = read(PathVariable) is { Length: > 0 } chosen ? [chosen] : Candidates(read);
        var reasons = new List<string>();
        foreach (var file in files)
        {
            if (GlobalLibrary.Load(file, out var reason) is { } library && NativeLibrary.TryGetExport(library, "MPI_Isend", out _))
            {
                return new MpiLibrary(library, file);
            }

            reasons.Add(reason.Length == 0 ? $"{file} has no MPI_Isend" : reason.Contains(file, StringComparison.Ordinal) ? reason : $"{file}: {reason}");
        }

        throw new RankFailedException(files.Length == 1
            ? $"{PathVariable} is {files[0]}, which is no MPI library that can be loaded: {reasons[0]}."
            : $"Several ranks on CPUs need MPI, which is not installed here (searched for {string.Join(", ", files)}). On Debian and Ubuntu: sudo apt-get install openmpi-bin; or set {PathVariable} to the path of its library.");
    }

    /// <summary>Begins MPI. This thread must make all further calls.</summary>
    internal void Initialize()
    {
        int provided;
        Check(((delegate* unmanaged<int*, void*, int, int*, int>)Export("MPI_Init_thread"))(null, null, _funneled, &provided), "MPI_Init_thread");

        // An error is a code for us, rather than the end of the process.
        Check(((delegate* unmanaged<nint, nint, int>)Export("MPI_Comm_set_errhandler"))(_world, _errorsReturn), "MPI_Comm_set_errhandler");
    }

    /// <summary>Ends MPI; all ranks call it.</summary>
    internal void End() => _ = ((delegate* unmanaged<int>)Export("MPI_Finalize"))();

    internal void Send(void* bytes, int count, int to, int tag, nint* request) => Check(_send(bytes, count, _byte, to, tag, _world, request), "MPI_Isend");

    internal void Receive(void* bytes, int count, int from, int tag, nint* request) => Check(_receive(bytes, count, _byte, from, tag, _world, request), "MPI_Irecv");

    /// <summary>Whether a request is complete. It must not be asked for again then.</summary>
    internal bool Test(nint* request)
    {
        int isDone;
        Check(_test(request, &isDone, _statusIgnore), "MPI_Test");
        return isDone != 0;
    }

    private static string[] Candidates(Func<string, string?> read)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new RankFailedException("Several ranks on CPUs need Open MPI or MPICH, which do not exist for Windows: use Linux, or WSL.");
        }

        string[] open = OperatingSystem.IsMacOS() ? ["libmpi.40.dylib", "/opt/homebrew/lib/libmpi.40.dylib"] : ["libmpi.so.40"];
        string[] mpich = OperatingSystem.IsMacOS() ? ["libmpi.12.dylib", "/opt/homebrew/lib/libmpi.12.dylib"] : ["libmpich.so.12", "libmpi.so.12", "libmpi_cray.so.12"];
        string[] common = OperatingSystem.IsMacOS() ? ["libmpi_abi.0.dylib", "libmpi_abi.dylib"] : ["libmpi_abi.so.0", "libmpi_abi.so"];
        return read("OMPI_COMM_WORLD_SIZE") is { Length: > 0 } ? [.. open, .. common, .. mpich]
            : read("PMI_SIZE") is { Length: > 0 } ? [.. mpich, .. common, .. open]
            : [.. open, .. mpich, .. common];
    }

    private string Version()
    {
        var text = stackalloc byte[MaxVersion];
        int length;
        Check(((delegate* unmanaged<byte*, int*, int>)Export("MPI_Get_library_version"))(text, &length), "MPI_Get_library_version");
        return Marshal.PtrToStringUTF8((nint)text) ?? "";
    }

    private string ChooseHandles(string version)
    {
        // Libraries with another ABI may have the function too; they answer -1.
        int major = -1, minor = -1;
        if (NativeLibrary.TryGetExport(_library, "MPI_Abi_get_version", out var ask) && ((delegate* unmanaged<int*, int*, int>)ask)(&major, &minor) == 0 && major >= 1)
        {
            (_world, _byte, _errorsReturn, _statusIgnore, _funneled) = (0x101, 0x247, 0x143, 0, 1024);
        }
        else if (version.StartsWith("Open MPI", StringComparison.Ordinal))
        {
            (_world, _byte, _errorsReturn, _statusIgnore) = (Export("ompi_mpi_comm_world"), Export("ompi_mpi_byte"), Export("ompi_mpi_errors_return"), 0);
        }
        else if (version.Contains("MPICH", StringComparison.Ordinal) || version.Contains("Intel(R) MPI", StringComparison.Ordinal) || version.Contains("MVAPICH", StringComparison.Ordinal) || version.Contains("CRAY", StringComparison.OrdinalIgnoreCase))
        {
            (_world, _byte, _errorsReturn, _statusIgnore) = (0x44000000, 0x4c00010d, 0x54000001, 1);
        }
        else
        {
            throw new RankFailedException($"{_file} is no MPI that is known here, but '{FirstLine(version)}': use Open MPI, MPICH or one with MPI 5's ABI ({PathVariable}).");
        }

        return FirstLine(version);
    }

    // "Open MPI v4.1.4, package: ..." and "MPICH Version:\t4.0.2\n...".
    private static string FirstLine(string version) =>
        version.Split('\n', ',')[0].Replace("Version:", "", StringComparison.Ordinal).Replace(" v", " ", StringComparison.Ordinal).Replace('\t', ' ').Replace("  ", " ", StringComparison.Ordinal).Trim();

    private int Ask(string function)
    {
        int answer;
        Check(((delegate* unmanaged<nint, int*, int>)Export(function))(_world, &answer), function);
        return answer;
    }

    private void Check(int code, string function)
    {
        if (code != 0)
        {
            var text = stackalloc byte[MaxError];
            int length;
            var known = ((delegate* unmanaged<int, byte*, int*, int>)Export("MPI_Error_string"))(code, text, &length) == 0;
            throw new MpiException($"{function}: {(known ? Marshal.PtrToStringUTF8((nint)text)?.Split('\n')[0] : $"error {code}")}");
        }
    }

    private nint Export(string name) =>
        NativeLibrary.TryGetExport(_library, name, out var address) ? address : throw new RankFailedException($"{_file} has no {name}: it is an incomplete MPI ({PathVariable} chooses another).");
}

/// <summary>MPI's own error.</summary>
internal sealed class MpiException(string message) : Exception(message);
