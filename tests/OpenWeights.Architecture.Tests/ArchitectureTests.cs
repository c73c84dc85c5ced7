using System.Text.RegularExpressions;
using NUnit.Framework;
using OpenWeights.Testing;

namespace OpenWeights.Architecture.Tests;

/// <summary>The arrows of docs/architecture.md are those of the code: none is missing there, none is left over, and they go one way.</summary>
[TestFixture]
internal sealed partial class ArchitectureTests
{
    private static readonly Arrows s_arrows = Arrows.Read();
    private static readonly string s_document = File.ReadAllText(Path.Combine(SharedFiles.Root, "docs", "architecture.md"));

    // Whoever has OpenWeights.LibTorch in its output has it by -p:TorchRuntime=system alone.
    private static readonly string[] s_optional = ["OpenWeights.LibTorch"];

    [Test]
    public void The_arrows_between_projects_are_those_of_the_document() => RequireSame(s_arrows.Projects, "Projects");

    [Test]
    public void The_arrows_between_rooms_are_those_of_the_document() => RequireSame(s_arrows.Rooms, "Rooms");

    [Test]
    public void Arrows_go_one_way([Values("Projects", "Rooms")] string section)
    {
        var arrows = Documented(section).ToLookup(static a => a.From, static a => a.To);
        var left = arrows.Select(static a => a.Key).ToHashSet();
        while (left.Count > 0)
        {
            var free = left.Where(from => !arrows[from].Any(left.Contains)).ToList();
            Assert.That(free, Is.Not.Empty, $"each of {string.Join(", ", left.Order())} is reached from itself");
            left.ExceptWith(free);
        }
    }

    [Test]
    public void Nothing_in_the_library_writes_to_the_console() => Assert.That(s_arrows.UsesConsole, Is.False);

    [Test]
    public void Every_room_has_a_line_in_the_document_and_every_line_a_room()
    {
        var folder = Path.Combine(SharedFiles.Root, "src", "OpenWeights.Tune");
        var rooms = Directory.GetDirectories(folder).Where(static d => Directory.EnumerateFiles(d, "*.cs", SearchOption.AllDirectories).Any()).Select(Path.GetFileName).Where(static d => d is not ("bin" or "obj"));
        Assert.That(RoomLine().Matches(s_document).Select(static m => m.Groups[1].Value), Is.EquivalentTo(rooms));
    }

    private static void RequireSame(IReadOnlyDictionary<(string From, string To), SortedSet<string>> code, string section)
    {
        var documented = Documented(section).ToHashSet();
        var added = code.Where(a => !documented.Contains(a.Key)).Select(static a => $"{a.Key.From} -> {a.Key.To}, by {string.Join("; ", a.Value.Take(5))}");
        var gone = documented.Where(a => !code.ContainsKey(a) && !s_optional.Contains(a.To) && !s_optional.Contains(a.From)).Select(static a => $"{a.From} -> {a.To}");
        Assert.Multiple(() =>
        {
            Assert.That(added, Is.Empty, "arrows of the code that docs/architecture.md does not have: turn them round, or draw them");
            Assert.That(gone, Is.Empty, "arrows of docs/architecture.md that the code no longer has: take them out");
        });
    }

    // The lines "- `From` -> `A`, `B`" of a section.
    private static IEnumerable<(string From, string To)> Documented(string section)
    {
        var text = s_document[s_document.IndexOf($"\n## {section}\n", StringComparison.Ordinal)..];
        text = text.IndexOf("\n## ", 1, StringComparison.Ordinal) is > 0 and var end ? text[..end] : text;
        return ArrowLine().Matches(text).SelectMany(static line => Name().Matches(line.Groups[2].Value).Select(to => (line.Groups[1].Value, to.Groups[1].Value)));
    }

    [GeneratedRegex("^- `([^`]+)` -> (.+)$", RegexOptions.Multiline)]
    private static partial Regex ArrowLine();

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex Name();

    [GeneratedRegex("^    ([A-Z][A-Za-z]+)/ ", RegexOptions.Multiline)]
    private static partial Regex RoomLine();
}
