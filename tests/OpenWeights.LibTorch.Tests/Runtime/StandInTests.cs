using System.Runtime.InteropServices;
using NUnit.Framework;
using OpenWeights.LibTorch.Native;
using OpenWeights.Testing;
using static TorchSharp.torch;

namespace OpenWeights.LibTorch.Tests.Runtime;

/// <summary>The empty libraries in the place of those that libtorch names and takes nothing from.</summary>
[Platform("Linux")]
public sealed class StandInTests
{
    private static string Folder => Path.Combine(AppContext.BaseDirectory, "libOpenWeightsTorch.so.unused");

    [Test]
    public void A_libtorch_that_names_pictures_and_films_is_loaded_without_them()
    {
        if (!Directory.Exists(Folder) || Environment.GetEnvironmentVariable("OWT_WHOLE_LIBTORCH") is { Length: > 0 })
        {
            Assert.Ignore("for a libtorch that names libraries it takes nothing from, as Debian's does");
        }

        using var scope = NewDisposeScope();
        _ = ones(8, 8).mm(ones(8, 8));
        var named = Directory.GetFiles(Folder).Select(Path.GetFileName).Order(StringComparer.Ordinal);
        Assert.That(NativeLoader.LeftOut, Is.EqualTo(named));
        var mapped = File.ReadAllLines("/proc/self/maps").Where(static line => line.Contains('/', StringComparison.Ordinal)).Select(static line => line[line.IndexOf('/', StringComparison.Ordinal)..]).Distinct().ToArray();
        var real = mapped.Where(file => NativeLoader.LeftOut.Any(name => Path.GetFileName(file).StartsWith(name, StringComparison.Ordinal)) && !file.StartsWith(Folder, StringComparison.Ordinal));
        Assert.That(real, Is.Empty);
        Assert.That(mapped.Count(static file => file.Contains(".so", StringComparison.Ordinal)), Is.LessThan(150), "the 250 libraries that come with them are not there either");
    }

    [Test]
    public void A_library_that_is_in_the_process_already_is_not_stood_in_for()
    {
        using var folder = new TemporaryFolder();
        var here = File.ReadAllLines("/proc/self/maps").Select(static line => line[(line.LastIndexOf(' ') + 1)..]).First(static file => Path.GetFileName(file).StartsWith("libc.so", StringComparison.Ordinal));
        File.Copy(here, Path.Combine(folder.Root, Path.GetFileName(here)));
        using var standIns = StandIns.Load(folder.Root);
        Assert.That(standIns.Names, Is.Empty);
    }

    [Test]
    public void A_library_that_is_not_there_yet_is_stood_in_for_unless_the_whole_libtorch_is_wanted()
    {
        using var folder = new TemporaryFolder();
        // Any small library under a name that nothing has.
        var some = Directory.GetFiles(RuntimeEnvironment.GetRuntimeDirectory(), "libSystem.Native.so").Single();
        File.Copy(some, Path.Combine(folder.Root, "libof_pictures.so.4"));
        Environment.SetEnvironmentVariable("OWT_WHOLE_LIBTORCH", "1");
        try
        {
            using var none = StandIns.Load(folder.Root);
            Assert.That(none.Names, Is.Empty);
        }
        finally
        {
            Environment.SetEnvironmentVariable("OWT_WHOLE_LIBTORCH", null);
        }

        using var standIns = StandIns.Load(folder.Root);
        Assert.That(standIns.Names, Is.EqualTo(["libof_pictures.so.4"]));
    }

    [Test]
    public void A_folder_that_is_not_there_has_none()
    {
        using var standIns = StandIns.Load(Path.Combine(Path.GetTempPath(), Path.GetRandomFileName()));
        Assert.That(standIns.Names, Is.Empty);
    }
}
