using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>The messages on the page of errors are those of the program, word for word.</summary>
internal sealed partial class TroubleshootingTests
{
    [Test]
    public void Every_message_of_the_page_is_in_the_sources()
    {
        var sources = string.Concat(
            Directory.EnumerateFiles(Path.Combine(SharedFiles.Root, "src"), "*.cs", SearchOption.AllDirectories).Append(Path.Combine(SharedFiles.Root, "scripts", "lib", "setup.sh"))
                .Where(static f => !f.Contains($"{Path.DirectorySeparatorChar}obj{Path.DirectorySeparatorChar}", StringComparison.Ordinal)).Select(File.ReadAllText));
        var messages = MessageCell().Matches(Page.Of("docs/troubleshooting.md").Text).SelectMany(static row => Literal().Matches(row.Groups[1].Value)).Select(static m => m.Groups[1].Value).ToList();
        Assert.That(messages, Has.Count.GreaterThan(40));
        Assert.That(messages.Where(m => !sources.Contains(m, StringComparison.Ordinal)), Is.Empty, "no message has these words");
    }

    // The first cell of a row.
    [GeneratedRegex(@"^\| ([^|]*`[^|]*) \|", RegexOptions.Multiline)]
    private static partial Regex MessageCell();

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex Literal();
}
