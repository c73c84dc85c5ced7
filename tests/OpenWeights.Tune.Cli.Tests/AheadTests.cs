using System.Reflection.PortableExecutable;
using NUnit.Framework;

namespace OpenWeights.Tune.Cli.Tests;

/// <summary>The program as it is built: compiled ahead of time, so that it starts in a fraction of the time.</summary>
public sealed class AheadTests
{
    [TestCase("owt")]
    [TestCase("OpenWeights.Tune")]
    [TestCase("System.CommandLine")]
    public void The_program_is_compiled_ahead_of_time_where_the_compiler_for_that_was_restored(string assembly)
    {
        var packages = Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget", "packages");
        if (!Directory.Exists(packages) || !Directory.GetDirectories(packages, "microsoft.netcore.app.crossgen2.*").Any(static folder => Directory.Exists(Path.Combine(folder, $"{Environment.Version}"))))
        {
            Assert.Ignore("the compiler that makes owt start faster was not restored (scripts/owt asks for it)");
        }

        if (AppContext.BaseDirectory.Contains($"{Path.DirectorySeparatorChar}Debug{Path.DirectorySeparatorChar}", StringComparison.Ordinal))
        {
            Assert.Ignore("a Debug build is not compiled ahead of time");
        }

        using var file = File.OpenRead(Path.Combine(AppContext.BaseDirectory, $"{assembly}.dll"));
        using var reader = new PEReader(file);
        Assert.That(reader.PEHeaders.CorHeader!.ManagedNativeHeaderDirectory.Size, Is.Positive);
    }
}
