using System.Text.RegularExpressions;
using OpenWeights.Testing;

namespace OpenWeights.Docs.Tests;

/// <summary>A page that people read: the README, and the pages of docs/.</summary>
internal sealed partial class Page
{
    private Page(string path)
    {
        Name = Path.GetRelativePath(SharedFiles.Root, path).Replace('\\', '/');
        Text = File.ReadAllText(path).ReplaceLineEndings("\n");
        Blocks = [.. Fence().Matches(Text).Select(m => Block(m))];
    }

    /// <summary>All pages, the README first.</summary>
    internal static IReadOnlyList<Page> All { get; } =
        [.. Directory.GetFiles(Path.Combine(SharedFiles.Root, "docs"), "*.md").Order(StringComparer.Ordinal).Prepend(Path.Combine(SharedFiles.Root, "README.md")).Select(static p => new Page(p))];

    /// <summary>Its path in the checkout, with slashes.</summary>
    internal string Name { get; }

    internal string Text { get; }

    internal IReadOnlyList<CodeBlock> Blocks { get; }

    internal static Page Of(string name) => All.Single(p => p.Name == name);

    public override string ToString() => Name;

    private CodeBlock Block(Match match)
    {
        var indent = match.Groups[1].Value;
        var words = match.Groups[2].Value.Split(' ', 2, StringSplitOptions.RemoveEmptyEntries);
        var lines = match.Groups[3].Value.Split('\n').Select(l => l.StartsWith(indent, StringComparison.Ordinal) ? l[indent.Length..] : l);
        return new CodeBlock(
            words.Length > 0 ? words[0] : "", words.Length > 1 ? words[1].Trim() : "", string.Join('\n', lines), Text[..match.Index].TrimEnd(), Text[..match.Index].Count(static c => c == '\n') + 1);
    }

    [GeneratedRegex(@"^( *)```([^\n`]*)\n(.*?)^\1```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Fence();
}

/// <summary>A fenced block of a page.</summary>
/// <param name="Language">The first word behind the fence, such as sh.</param>
/// <param name="File">The other words: the file that the reader saves the block as; empty for none.</param>
/// <param name="Text">What is between the fences, without their indentation.</param>
/// <param name="Before">All of the page above it.</param>
/// <param name="Line">The line of its fence.</param>
internal sealed record CodeBlock(string Language, string File, string Text, string Before, int Line);
