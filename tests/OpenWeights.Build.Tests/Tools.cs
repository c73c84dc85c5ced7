using System.Diagnostics;
using NUnit.Framework;

namespace OpenWeights.Build.Tests;

/// <summary>Runs other programs.</summary>
internal static class Tools
{
    /// <summary>Runs a program to its end; what it wrote, and whether it went well.</summary>
    public static (bool Succeeded, string Output) Run(string program, string folder, params string[] arguments) => Run(program, folder, [], arguments);

    public static (bool Succeeded, string Output) Run(string program, string folder, (string Name, string Value)[] environment, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        // A build within a test run must not take the test run's own settings over.
        foreach (var name in start.Environment.Keys.Where(static n => n.StartsWith("MSBuild", StringComparison.OrdinalIgnoreCase)).ToList())
        {
            start.Environment.Remove(name);
        }

        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        var error = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd() + error.Result;
        process.WaitForExit();
        return (process.ExitCode == 0, output);
    }

    /// <summary>Runs dotnet, which runs this too.</summary>
    public static (bool Succeeded, string Output) Dotnet(string folder, params string[] arguments) => Run(Environment.ProcessPath!, folder, arguments);

    /// <summary>Compiles C to a shared library; the test is skipped where there is no compiler for that.</summary>
    public static void Compile(string folder, string source, string library, params string[] arguments)
    {
        File.WriteAllText(Path.Combine(folder, library + ".c"), source);
        try
        {
            var (succeeded, output) = Run("cc", folder, ["-shared", "-fPIC", library + ".c", "-o", library, .. arguments]);
            Assert.That(succeeded, output);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore("needs a C compiler, cc, which this machine does not have");
        }
    }
}
