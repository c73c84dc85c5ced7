using System.Reflection.PortableExecutable;
using FsCheck;
using FsCheck.Fluent;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Build.Tests;

/// <summary>Whether the Windows libraries of the packages fit together: what one imports, the other exports.</summary>
internal sealed class WindowsImportsTests
{
    [TestCase("win-x64")]
    [TestCase("win-arm64")]
    public void All_that_TorchSharps_library_imports_of_libtorch_is_exported(string platform)
    {
        var library = Read(Packages.TorchSharp(platform, "LibTorchSharp.dll"));
        Assert.Multiple(() =>
        {
            Assert.That(library.Imports["torch_cpu.dll"], Has.Count.GreaterThan(1000));
            Assert.That(library.Imports["c10.dll"], Has.Count.GreaterThan(100));
            Assert.That(WindowsLibrary.FindUnresolved(Packages.Windows(platform), out var found), Is.Empty);
            Assert.That(found, Is.GreaterThan(library.Imports["torch_cpu.dll"].Count + library.Imports["c10.dll"].Count));
        });
    }

    [TestCase("win-x64", Machine.Amd64)]
    [TestCase("win-arm64", Machine.Arm64)]
    public void Imports_and_exports_are_counted_as_dotnets_own_reader_finds_them(string platform, Machine machine)
    {
        var path = Packages.LibTorch(platform, "c10.dll");
        using var reader = new PEReader(File.OpenRead(path));
        var headers = reader.PEHeaders;
        var exports = reader.GetSectionData(headers.PEHeader!.ExportTableDirectory.RelativeVirtualAddress).GetReader();
        exports.Offset = 20;
        var (functions, names) = (exports.ReadInt32(), exports.ReadInt32());

        var library = Read(path);
        Assert.Multiple(() =>
        {
            Assert.That(headers.CoffHeader.Machine, Is.EqualTo(machine));
            Assert.That(library.Exports.Count(static e => e[0] != '#'), Is.EqualTo(names).And.GreaterThan(1000));
            Assert.That(library.Exports.Count(static e => e[0] == '#'), Is.EqualTo(functions));
            Assert.That(library.Imports.Keys, Does.Contain("KERNEL32.dll"));
        });
    }

    [Test]
    public void A_library_that_lacks_what_another_imports_is_named_with_the_functions()
    {
        using var folder = new TemporaryFolder();
        File.Copy(Packages.TorchSharp("win-x64", "LibTorchSharp.dll"), folder["LibTorchSharp.dll"]);
        // Another library in its place stands for one of another version.
        File.Copy(Packages.LibTorch("win-x64", "torch.dll"), folder["c10.dll"]);

        var unresolved = WindowsLibrary.FindUnresolved([folder["LibTorchSharp.dll"], folder["c10.dll"]], out _);
        Assert.That(unresolved, Has.Count.EqualTo(1));
        Assert.Multiple(() =>
        {
            Assert.That((unresolved[0].User, unresolved[0].Library), Is.EqualTo(("LibTorchSharp.dll", "c10.dll")));
            Assert.That(unresolved[0].Missing, Has.Count.GreaterThan(100).And.Some.Contains("c10@@"));
        });
    }

    [Test]
    public void A_file_that_was_cut_off_is_refused_in_one_sentence()
    {
        var whole = File.ReadAllBytes(Packages.LibTorch("win-x64", "c10.dll"));
        foreach (var length in new[] { 0, 1, 63, 64, 300, 600, 4096, 700_000 })
        {
            Assert.That(() => WindowsLibrary.Read(new MemoryStream(whole[..length]), "cut.dll"), Throws.TypeOf<InvalidDataException>().With.Message.Matches(@"^cut\.dll is [^\n]+\.$"), $"{length} bytes");
        }
    }

    [Test]
    [CancelAfter(120_000)]
    public void Damaged_files_are_read_or_refused_and_never_anything_else()
    {
        var whole = File.ReadAllBytes(Packages.LibTorch("win-x64", "torch_global_deps.dll"));
        var values = Gen.OneOf(Gen.Elements(0, -1, 1, int.MaxValue, int.MinValue, 0xffff, whole.Length), Gen.Choose(int.MinValue, int.MaxValue));
        var damage = Gen.ListOf(Gen.Zip(Gen.OneOf(Gen.Choose(0, 800), Gen.Choose(0, whole.Length - 4)), values)).Where(static d => d.Count > 0).ToArbitrary();

        Prop.ForAll(damage, changes =>
        {
            var bytes = (byte[])whole.Clone();
            foreach (var (at, value) in changes)
            {
                BitConverter.TryWriteBytes(bytes.AsSpan(at), value);
            }

            try
            {
                WindowsLibrary.Read(new MemoryStream(bytes), "damaged.dll");
                return true;
            }
            catch (InvalidDataException e)
            {
                return e.Message.StartsWith("damaged.dll is ", StringComparison.Ordinal) && !e.Message.Contains('\n', StringComparison.Ordinal);
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(2000));
    }

    private static WindowsLibrary Read(string path)
    {
        using var file = File.OpenRead(path);
        return WindowsLibrary.Read(file, path);
    }
}
