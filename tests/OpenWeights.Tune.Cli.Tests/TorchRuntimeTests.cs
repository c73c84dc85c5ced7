#if !TORCH_SYSTEM
using System.Diagnostics;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>The program without its libtorch, with another one in LIBTORCH, and with broken files: one sentence each, and no trace of TorchSharp's.</summary>
public sealed class TorchRuntimeTests
{
    private static readonly string s_package = Path.GetDirectoryName(TorchSupplier.Current.Library)!;

    private TemporaryFolder _folder = null!;
    private string _program = null!;

    [SetUp]
    public void TakeTheProgramWithoutLibtorch()
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("files are linked and compiled as on Linux");
        }

        _folder = new TemporaryFolder();
        _program = Path.Combine(_folder.Root, "the program");
        Directory.CreateDirectory(_program);
        foreach (var file in Directory.EnumerateFiles(AppContext.BaseDirectory).Where(static f => Path.GetExtension(f) is ".dll" or ".json" && Path.GetFileName(f) != "owt.deps.json"))
        {
            File.CreateSymbolicLink(Path.Combine(_program, Path.GetFileName(file)), file);
        }

        // Where a program lies counts with its links followed, so its own file is a copy; without a list of dependencies all is beside it.
        var main = Path.Combine(_program, "owt.dll");
        File.Delete(main);
        File.Copy(Path.Combine(AppContext.BaseDirectory, "owt.dll"), main);
        File.Copy(TorchSharpsLibrary(), Path.Combine(_program, "libLibTorchSharp.so"));
    }

    [TearDown]
    public void Remove() => _folder?.Dispose();

    [Test]
    public void A_libtorch_in_LIBTORCH_laid_out_as_PyTorch_has_it_is_taken_where_the_program_has_none()
    {
        var torch = PyTorch();
        var (code, output, error) = Run(torch, "doctor");
        Assert.That(code, Is.Zero, error);
        Assert.That(output, Does.Contain("libtorch 2.10.0").And.Contain(Path.GetFileName(s_package) == "lib" ? "" : "TorchSharp package"));
        (code, output, error) = Run(torch, "doctor", "--proof", Path.Combine(_folder.Root, "proof"));
        Assert.That(code, Is.Zero, error);
        Assert.That(File.ReadAllLines(Path.Combine(_folder.Root, "proof")), Has.Some.EndsWith("libtorch_cpu.so"));
    }

    [Test]
    public void A_libtorch_in_OWT_LIBTORCH_is_taken_in_place_of_the_programs_own_and_LIBTORCH_is_not()
    {
        Own();
        var other = Copy();
        foreach (var named in (string[])[other, Path.Combine(other, "lib")])
        {
            var (code, output, error) = Run([("OWT_LIBTORCH", named)], "doctor", "--proof", Path.Combine(_folder.Root, "proof"));
            Assert.That(code, Is.Zero, error);
            Assert.That(Proof(), Is.EqualTo(new[] { Path.Combine(other, "lib", "libtorch_cpu.so") }), "one libtorch in the process");
        }

        var (own, told, failed) = Run([("LIBTORCH", other)], "doctor", "--proof", Path.Combine(_folder.Root, "proof"));
        Assert.That(own, Is.Zero, failed);
        Assert.That(Proof(), Is.EqualTo(new[] { Path.Combine(s_package, "libtorch_cpu.so") }));
        Assert.That(Run([("LIBTORCH", other)], "doctor").Output, Does.Contain($"LIBTORCH={other} is ignored").And.Contain($"OWT_LIBTORCH={other} to use the other"), told);
    }

    [Test]
    public void A_libtorch_in_OWT_LIBTORCH_that_does_not_fit_is_refused_and_no_other_is_taken()
    {
        Own();
        Refused([("OWT_LIBTORCH", Doctored("2, 13, 0"))], "is version 2.13.0", "only with 2.10 to 2.12");
        Refused([("OWT_LIBTORCH", Compiled("int nothing(void) { return 0; }"))], "does not report its version", "older than 2.9");
        Refused([("OWT_LIBTORCH", _folder.Root)], "OWT_LIBTORCH is", "does not contain libtorch_cpu.so or lib/libtorch_cpu.so");
    }

    [Test]
    public void OWT_LIBTORCH_is_refused_where_TorchSharp_would_load_a_second_libtorch_from_beside_the_program()
    {
        File.CreateSymbolicLink(Path.Combine(_program, "libtorch_cpu.so"), Path.Combine(s_package, "libtorch_cpu.so"));
        Refused([("OWT_LIBTORCH", PyTorch())], "has a libtorch beside it", "OWT_TORCH=system");
    }

    [Test]
    public void Without_any_libtorch_one_sentence_tells_what_to_do()
    {
        Refused((string?)null, "libtorch_cpu.so was not found", "LIBTORCH", "OWT_TORCH=system");
        Refused(_folder.Root, "LIBTORCH is", "does not contain libtorch_cpu.so or lib/libtorch_cpu.so");
    }

    [Test]
    public void A_libtorch_whose_operators_mean_something_else_is_refused_before_the_first_of_them()
    {
        Refused(Doctored("2, 13, 0"), "is version 2.13.0", "only with 2.10 to 2.12", "OWT_TORCH=system");
        Refused(Doctored("2, 9, 1"), "is version 2.9.1", "only with 2.10 to 2.12");
    }

    [Test]
    public void A_libtorch_that_does_not_tell_its_version_is_too_old()
    {
        Refused(Compiled("int nothing(void) { return 0; }"), "does not report its version", "older than 2.9");
    }

    [Test]
    public void A_distributions_libtorch_is_refused_by_the_version_of_its_headers()
    {
        if (!File.Exists("/usr/lib/x86_64-linux-gnu/libtorch_cpu.so") || !File.Exists("/usr/include/torch/csrc/api/include/torch/version.h"))
        {
            Assert.Ignore("no libtorch of the distribution is installed");
        }

        Refused("/usr", "is version 1.", "only with 2.10 to 2.12");
    }

    [Test]
    public void Broken_files_are_named()
    {
        var torch = PyTorch();
        var file = Path.Combine(torch, "lib", "libtorch_cpu.so");
        File.Delete(file);
        File.WriteAllBytes(file, new byte[4096]);
        Refused(torch, "libtorch_cpu.so cannot be loaded");
        var part = Path.Combine(torch, "lib", "libtorch_cpu.so");
        File.Delete(part);
        var whole = File.OpenHandle(Path.Combine(s_package, "libtorch_cpu.so"));
        var bytes = new byte[1 << 20];
        _ = RandomAccess.Read(whole, bytes, 0);
        whole.Dispose();
        File.WriteAllBytes(part, bytes);
        Refused(torch, "libtorch_cpu.so is truncated");
        File.Delete(Path.Combine(_program, "libLibTorchSharp.so"));
        Refused(PyTorch(), "TorchSharp's library libLibTorchSharp.so was not found");
    }

    private static string TorchSharpsLibrary() =>
        TorchSupplier.Libraries().Single(static file => Path.GetFileName(file) == "libLibTorchSharp.so");

    // As a published program has it.
    private void Own()
    {
        var own = Directory.CreateDirectory(Path.Combine(_program, "libtorch"));
        foreach (var file in LibTorchFiles())
        {
            File.CreateSymbolicLink(Path.Combine(own.FullName, Path.GetFileName(file)), file);
        }
    }

    // Files of their own: the loader knows a link for the file that it has already.
    private string Copy()
    {
        var lib = Directory.CreateDirectory(Path.Combine(_folder.Root, "a copy", "lib"));
        foreach (var file in LibTorchFiles())
        {
            File.Copy(file, Path.Combine(lib.FullName, Path.GetFileName(file)));
        }

        return lib.Parent!.FullName;
    }

    private string[] Proof() => [.. File.ReadAllLines(Path.Combine(_folder.Root, "proof")).Where(static f => f.EndsWith("libtorch_cpu.so", StringComparison.Ordinal))];

    private static IEnumerable<string> LibTorchFiles() => Directory.EnumerateFiles(s_package, "*.so*").Where(static f => Path.GetFileName(f) != "libLibTorchSharp.so");

    // As pip installs it: libraries in the folder lib of the package torch.
    private string PyTorch()
    {
        var lib = Directory.CreateDirectory(Path.Combine(_folder.Root, Path.GetRandomFileName(), "torch", "lib"));
        foreach (var file in LibTorchFiles())
        {
            File.CreateSymbolicLink(Path.Combine(lib.FullName, Path.GetFileName(file)), file);
        }

        return lib.Parent!.FullName;
    }

    private string Doctored(string version)
    {
        var parts = version.Split(", ");
        return Compiled($"unsigned long long aoti_torch_abi_version(void) {{ return {parts[0]}ull << 56 | {parts[1]}ull << 48 | {parts[2]}ull << 40; }}");
    }

    private string Compiled(string source)
    {
        var lib = Directory.CreateDirectory(Path.Combine(_folder.Root, Path.GetRandomFileName(), "lib"));
        File.WriteAllText(Path.Combine(lib.FullName, "torch.c"), source);
        try
        {
            using var compiler = Process.Start(new ProcessStartInfo("gcc", ["-shared", "-fPIC", "torch.c", "-o", "libtorch_cpu.so"]) { WorkingDirectory = lib.FullName })!;
            compiler.WaitForExit();
            Assert.That(compiler.ExitCode, Is.Zero);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore("there is no gcc to make a library with");
        }

        return lib.Parent!.FullName;
    }

    private void Refused(string? torch, params string[] words) => Refused([("LIBTORCH", torch ?? "")], words);

    private void Refused((string Name, string Value)[] variables, params string[] words)
    {
        var (code, output, error) = Run(variables, "doctor");
        Assert.That(code, Is.EqualTo(3), $"{output}\n{error}");
        Assert.That(output, Is.Empty);
        Assert.That(error.TrimEnd().Split('\n'), Has.Length.EqualTo(1), "one line");
        foreach (var word in words)
        {
            Assert.That(error, Does.StartWith("error: ").And.Contain(word));
        }

        // The trace is there for who asks for it, and nothing of TorchSharp's own search for its library.
        Assert.That(Run(variables, "doctor", "--verbose").Error, Does.Contain(nameof(TorchUnavailableException)).And.Not.Contain("LoadNativeBackend"));
    }

    private (int Code, string Output, string Error) Run(string? torch, params string[] arguments) => Run([("LIBTORCH", torch ?? "")], arguments);

    private (int Code, string Output, string Error) Run((string Name, string Value)[] variables, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(_program, "owt.dll"), .. arguments]) { WorkingDirectory = _folder.Root, RedirectStandardOutput = true, RedirectStandardError = true };
        (start.Environment["LIBTORCH"], start.Environment["OWT_LIBTORCH"]) = ("", "");
        foreach (var (name, value) in variables)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        Assert.That(process.WaitForExit(TimeSpan.FromMinutes(2)));
        return (process.ExitCode, output, error.GetAwaiter().GetResult());
    }
}
#endif
