using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>Programs on the pages are pieces of files that are compiled, and run, as samples or tests.</summary>
internal sealed class ProgramTests
{
    // Their blocks are compiled and run by ExtensionTests.
    private static readonly string[] s_extensions = ["docs/add-a-family.md", "docs/add-an-objective.md"];

    private static readonly string[] s_sources =
        [.. new[] { "samples", "tests" }.SelectMany(static f => Directory.EnumerateFiles(Path.Combine(SharedFiles.Root, f), "*.cs", SearchOption.AllDirectories)).Select(static f => Plain(File.ReadAllText(f)))];

    private static IEnumerable<TestCaseData> Programs => Page.All.Where(static p => !s_extensions.Contains(p.Name))
        .SelectMany(static p => p.Blocks.Where(static b => b.Language is "csharp" or "cs").Select(b => new TestCaseData(b.Text).SetArgDisplayNames($"{p.Name}:{b.Line}")));

    [TestCaseSource(nameof(Programs))]
    public void A_program_of_a_page_is_a_piece_of_one_that_is_compiled(string text) => Assert.That(s_sources.Any(s => s.Contains(Plain(text), StringComparison.Ordinal)), Is.True);

    // Without indentation and empty lines at the end.
    private static string Plain(string text) => string.Join('\n', text.ReplaceLineEndings("\n").Split('\n').Select(static l => l.Trim())).Trim('\n');
}
