using System.Runtime.InteropServices;
using FsCheck;
using FsCheck.Fluent;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Build.Tests;

/// <summary>What native libraries need of others, and how needs that nothing uses are marked weak.</summary>
internal sealed class ElfVersionNeedsTests
{
    private static readonly string[] Gcc11 = [.. Enumerable.Range(1, 29).Select(static n => $"GLIBCXX_3.4.{n}"), "GLIBCXX_3.4", "CXXABI_1.3", .. Enumerable.Range(1, 13).Select(static n => $"CXXABI_1.3.{n}")];

    [Test]
    public void TorchSharps_library_asks_for_a_version_of_libstdcxx_that_it_does_not_use()
    {
        var elf = Read(Packages.TorchSharp("linux-x64", "libLibTorchSharp.so"));

        var need = elf.Needs.Single(static n => n.Version == "GLIBCXX_3.4.32");
        Assert.Multiple(() =>
        {
            Assert.That(need.Library, Is.EqualTo("libstdc++.so.6"));
            Assert.That(need.Symbols, Is.EqualTo(new[] { "_ZSt21ios_base_library_initv" }));
            Assert.That(need.IsIdle, Is.True);
            Assert.That(need.IsWeak, Is.False);
            Assert.That(elf.Needs.Single(static n => n.Version == "GLIBCXX_3.4.29").UsedSymbols, Is.EqualTo(new[] { "_ZSt28__throw_bad_array_new_lengthv" }));
        });
    }

    [Test]
    public void A_loosened_copy_of_TorchSharps_library_differs_in_its_flags_and_the_version_of_one_function_alone()
    {
        var path = Packages.TorchSharp("linux-x64", "libLibTorchSharp.so");
        var before = File.ReadAllBytes(path);
        var after = Loosen(path);

        var changed = Enumerable.Range(0, before.Length).Where(i => before[i] != after[i]).ToList();
        var elf = ElfVersionNeeds.Read(new MemoryStream(after), "copy");
        Assert.Multiple(() =>
        {
            Assert.That(after, Has.Length.EqualTo(before.Length));
            Assert.That(changed, Has.Count.EqualTo(3));
            Assert.That(elf.Needs.Where(static n => n.IsWeak).Select(static n => n.Version), Is.EquivalentTo(new[] { "GLIBCXX_3.4.30", "GLIBCXX_3.4.32" }));
            Assert.That(elf.Needs.Single(static n => n.Version == "GLIBCXX_3.4.11").UsedSymbols, Does.Contain("_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE"));
        });
    }

    [Test]
    public void TorchSharps_library_finds_all_that_it_uses_in_the_libstdcxx_of_RHEL_9_and_not_in_an_older_one()
    {
        var elf = Read(Packages.TorchSharp("linux-x64", "libLibTorchSharp.so"));

        var older = elf.FindMissing(static library => library == "libstdc++.so.6" ? [.. Gcc11.Where(static v => v != "GLIBCXX_3.4.29")] : null).ToList();
        Assert.Multiple(() =>
        {
            Assert.That(elf.FindMissing(static library => library == "libstdc++.so.6" ? Gcc11 : null), Is.Empty);
            Assert.That(older, Has.Count.EqualTo(1));
            Assert.That(older[0], Does.StartWith("libLibTorchSharp.so needs GLIBCXX_3.4.29 of libstdc++.so.6 (_ZSt28__throw_bad_array_new_lengthv), which this system's does not have; "));
        });
    }

    [Test]
    public void Libtorchs_libraries_need_nothing_that_could_be_marked()
    {
        Assert.Multiple(() =>
        {
            Assert.That(Read(Packages.LibTorch("linux-x64", "libtorch.so")).Needs, Is.Empty);
            Assert.That(Read(Packages.LibTorch("linux-x64", "libtorch_cpu.so")).Needs, Has.Count.GreaterThan(40).And.None.Matches<ElfVersionNeed>(static n => n!.IsIdle));
        });
    }

    [Test]
    public void A_library_loads_over_an_older_one_once_its_idle_needs_are_weak()
    {
        using var folder = new TemporaryFolder();
        CompilePair(folder, "idle", """__asm__(".globl second"); int first(void); int answer(void) { return first(); }""");
        var user = folder["libuser-idle.so"];
        Assert.That(NativeLibrary.TryLoad(user, out _), Is.False, "the loader wants SECOND");

        File.WriteAllBytes(user, Loosen(user));

        Assert.That(NativeLibrary.TryLoad(user, out var handle), Is.True);
        Assert.That(Marshal.GetDelegateForFunctionPointer<Answer>(NativeLibrary.GetExport(handle, "answer"))(), Is.EqualTo(41));
    }

    [Test]
    public void A_library_that_uses_what_an_older_one_lacks_stays_as_it_is_and_a_sentence_says_what_is_missing()
    {
        using var folder = new TemporaryFolder();
        CompilePair(folder, "used", "int first(void); int second(void); int answer(void) { return first() + second(); }");
        var user = folder["libuser-used.so"];

        var elf = Read(user);
        var missing = elf.FindMissing(library => library == "libdep-used.so" ? Read(folder[library]).Offers : null).ToList();
        Assert.Multiple(() =>
        {
            Assert.That(Loosen(user), Is.EqualTo(File.ReadAllBytes(user)));
            Assert.That(missing, Has.Count.EqualTo(1));
            Assert.That(missing[0], Does.StartWith("libuser-used.so needs SECOND of libdep-used.so (second), which this system's does not have; "));
        });
    }

    [Test]
    public void A_version_that_stands_for_what_the_loader_must_know_is_never_marked()
    {
        using var folder = new TemporaryFolder();
        Tools.Compile(folder.Root, """#include <stdio.h>""" + "\nint (*print)(const char *) = puts; void *self = &self;", "librelr.so", "-Wl,-z,pack-relative-relocs");
        var elf = Read(folder["librelr.so"]);
        if (elf.Needs.All(static n => n.Version != "GLIBC_ABI_DT_RELR"))
        {
            Assert.Ignore("this machine's linker packs no relative relocations (-z pack-relative-relocs)");
        }

        Assert.That(elf.Needs.Single(static n => n.Version == "GLIBC_ABI_DT_RELR").IsIdle, Is.False);
    }

    [Test]
    public void A_file_that_was_cut_off_is_refused_in_one_sentence()
    {
        var whole = File.ReadAllBytes(Packages.TorchSharp("linux-x64", "libLibTorchSharp.so"));
        foreach (var length in new[] { 0, 3, 19, 20, 63, 64, 200, 4096, 100_000, 262_400, 290_000 })
        {
            Assert.That(() => ElfVersionNeeds.Read(new MemoryStream(whole[..length]), "cut.so"), Throws.TypeOf<InvalidDataException>().With.Message.Matches(@"^cut\.so is [^\n]+\.$"), $"{length} bytes");
        }
    }

    [Test]
    [CancelAfter(120_000)]
    public void Damaged_files_are_read_or_refused_and_never_anything_else()
    {
        var whole = File.ReadAllBytes(Packages.LibTorch("linux-x64", "libshm.so"));
        // Most of what is read lies in its first pages and in the dynamic segment; the values are those that tend to hurt.
        var dynamic = (int)BitConverter.ToInt64(whole, DynamicHeader(whole) + 8);
        var places = Gen.OneOf(Gen.Choose(0, 1000), Gen.Choose(dynamic, dynamic + 600), Gen.Choose(0, 50_000));
        var values = Gen.OneOf(Gen.Elements(0L, -1L, 1L, long.MaxValue, long.MinValue, int.MaxValue, 0xffff, whole.Length), Gen.Choose(int.MinValue, int.MaxValue).Select(static v => (long)v));
        var damage = Gen.ListOf(Gen.Zip(places, values)).Where(static d => d.Count > 0).ToArbitrary();

        Prop.ForAll(damage, changes =>
        {
            var bytes = (byte[])whole.Clone();
            foreach (var (at, value) in changes)
            {
                BitConverter.TryWriteBytes(bytes.AsSpan(at), value);
            }

            try
            {
                var elf = ElfVersionNeeds.Read(new MemoryStream(bytes), "damaged.so");
                elf.Loosen(new MemoryStream(bytes));
                return true;
            }
            catch (InvalidDataException e)
            {
                return e.Message.StartsWith("damaged.so is ", StringComparison.Ordinal) && !e.Message.Contains('\n', StringComparison.Ordinal);
            }
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(2000));
    }

    private delegate int Answer();

    // A library with two versions to link against, and then in its place an older one that has the first alone.
    private static void CompilePair(TemporaryFolder folder, string name, string user)
    {
        const string Newer = "FIRST { global: first; local: *; }; SECOND { global: second; } FIRST;";
        folder.Write("newer.map", Newer);
        folder.Write("older.map", "FIRST { global: first; local: *; };");
        var library = $"libdep-{name}.so";
        Tools.Compile(folder.Root, "int first(void) { return 41; } int second(void) { return 1; }", library, "-Wl,--version-script=newer.map", $"-Wl,-soname,{library}");
        Tools.Compile(folder.Root, user, $"libuser-{name}.so", library, "-Wl,-rpath,$ORIGIN", "-Wl,-z,now");
        Tools.Compile(folder.Root, "int first(void) { return 41; }", library, "-Wl,--version-script=older.map", $"-Wl,-soname,{library}");
    }

    private static int DynamicHeader(byte[] elf)
    {
        var at = (int)BitConverter.ToInt64(elf, 32);
        while (BitConverter.ToInt32(elf, at) != 2)
        {
            at += 56;
        }

        return at;
    }

    private static ElfVersionNeeds Read(string path)
    {
        using var file = File.OpenRead(path);
        return ElfVersionNeeds.Read(file, path);
    }

    private static byte[] Loosen(string path)
    {
        using var copy = new MemoryStream();
        using var file = File.OpenRead(path);
        file.CopyTo(copy);
        ElfVersionNeeds.Read(file, path).Loosen(copy);
        return copy.ToArray();
    }
}
