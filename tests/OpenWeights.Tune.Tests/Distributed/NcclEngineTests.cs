using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Tests.Distributed.Processes;

namespace OpenWeights.Tune.Tests.Distributed;

/// <summary>
/// NCCL's engine calls NCCL as it wants to be called: checked with a library that has NCCL's interface, moves memory of the host, and is as
/// strict. With and without streams of CUDA's runtime.
/// </summary>
[TestFixture]
public sealed class NcclEngineTests
{
    private static readonly Lock s_compiling = new();
    private static string s_library = "";

    /// <summary>Compiles the library.</summary>
    [OneTimeSetUp]
    public void FindLibrary() => s_library = StandInLibrary();

    [Test]
    public void Collectives_give_what_they_are_defined_as([Values(2, 3)] int ranks, [Values] bool hasStreams) => Check(ranks, "collectives", hasStreams, "gave what they are defined as");

    [Test]
    public void Operations_that_overlap_do_not_mix([Values] bool hasStreams) => Check(2, "pending", hasStreams, "gave what they are defined as");

    [Test]
    public void Operations_and_other_work_of_the_GPU_wait_for_each_other([Values] bool hasStreams) => Check(2, "streams", hasStreams, "waited for each other");

    /// <summary>The library, compiled; or skips the test with the reason why there is none.</summary>
    internal static string StandInLibrary()
    {
        var (source, library) = (Path.Combine(SharedFiles.Root, "tests", "OpenWeights.Tune.Tests", "Distributed", "native", "standin_nccl.cpp"), Path.Combine(AppContext.BaseDirectory, "libstandin_nccl.so"));
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("the stand-in for NCCL is written for Linux");
        }

        lock (s_compiling)
        {
            Compile(source, library);
        }

        return library;
    }

    private static void Compile(string source, string library)
    {
        if (!File.Exists(library) || File.GetLastWriteTimeUtc(library) < Directory.GetFiles(Path.GetDirectoryName(source)!).Max(File.GetLastWriteTimeUtc))
        {
            try
            {
                using var compiler = Process.Start(new ProcessStartInfo("g++", ["-O1", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread", source, "-o", library + ".new"]) { RedirectStandardError = true })!;
                var said = compiler.StandardError.ReadToEnd();
                compiler.WaitForExit();
                Assert.That(compiler.ExitCode, Is.Zero, said);
            }
            catch (System.ComponentModel.Win32Exception)
            {
                Assert.Ignore("g++ is not installed, which compiles the stand-in for NCCL");
            }

            File.Move(library + ".new", library, overwrite: true);
        }
    }

    /// <summary>Variables of a rank that uses the library.</summary>
    internal static (string Name, string Value)[] Variables(string library, bool hasStreams, int port) =>
        [("OWT_NCCL", library), ("OWT_CUDART", hasStreams ? library : ""), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", $"{port}")];

    /// <summary>A port that is free now.</summary>
    internal static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    private static void Check(int ranks, string scenario, bool hasStreams, string told)
    {
        var port = FreePort();
        using var processes = RankProcesses.StartPlain(ranks, $"{scenario} --gpu", static _ => [], _ => Variables(s_library, hasStreams, port));
        Assert.That(processes.WaitForExit(), Is.Zero, processes.Output);
        Assert.That(processes.Output.Split('\n').Count(l => l.Contains(told, StringComparison.Ordinal)), Is.EqualTo(ranks), processes.Output);
    }
}
