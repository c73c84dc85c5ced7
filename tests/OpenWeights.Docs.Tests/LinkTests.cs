using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>Links between pages lead somewhere, and every page can be reached from the README.</summary>
internal sealed partial class LinkTests
{
    [Test]
    public void Every_link_leads_to_a_file_and_a_heading_that_are_there()
    {
        List<string> broken = [];
        foreach (var page in Page.All)
        {
            foreach (var (file, anchor, text) in Links(page))
            {
                if (!Path.Exists(file))
                {
                    broken.Add($"{page.Name}: {text}");
                }
                else if (anchor.Length > 0 && !Anchors(File.ReadAllText(file)).Contains(anchor))
                {
                    broken.Add($"{page.Name}: {text} (there is no such heading)");
                }
            }
        }

        Assert.That(broken, Is.Empty);
    }

    [Test]
    public void Every_page_is_reached_from_the_README()
    {
        var byFile = Page.All.ToDictionary(static p => Path.Combine(SharedFiles.Root, p.Name));
        var open = new Queue<Page>([Page.Of("README.md")]);
        HashSet<Page> reached = [.. open];
        while (open.TryDequeue(out var page))
        {
            foreach (var (file, _, _) in Links(page))
            {
                if (byFile.TryGetValue(file, out var next) && reached.Add(next))
                {
                    open.Enqueue(next);
                }
            }
        }

        Assert.That(Page.All.Where(p => !reached.Contains(p)).Select(static p => p.Name), Is.Empty);
    }

    private static IEnumerable<(string File, string Anchor, string Text)> Links(Page page)
    {
        var own = Path.Combine(SharedFiles.Root, page.Name);
        foreach (Match link in Link().Matches(Code().Replace(page.Text, "")))
        {
            var target = link.Groups[1].Value;
            if (!target.Contains("://", StringComparison.Ordinal) && !target.StartsWith("mailto:", StringComparison.Ordinal))
            {
                var parts = target.Split('#', 2);
                yield return (parts[0].Length == 0 ? own : Path.GetFullPath(Path.Combine(Path.GetDirectoryName(own)!, parts[0])), parts.Length > 1 ? parts[1] : "", target);
            }
        }
    }

    // As GitHub makes them: small letters, spaces to dashes, other signs gone.
    private static HashSet<string> Anchors(string text) =>
        [.. Heading().Matches(Code().Replace(text.ReplaceLineEndings("\n"), "")).Select(static m => OtherSigns().Replace(m.Groups[1].Value.ToLowerInvariant(), "").Replace(' ', '-'))];

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"^#+ (.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\p{L}\p{N} _-]")]
    private static partial Regex OtherSigns();

    [GeneratedRegex(@"^ *```.*?^ *```$|`[^`\n]*`(?!\])", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Code();
}
