using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Docs.Tests;

/// <summary>Pieces of configs on the pages have keys and values that exist.</summary>
internal sealed class YamlTests
{
    // What a config needs, where a page shows a part of one alone.
    private static readonly (string Section, string Line)[] s_needed =
        [("output_dir:", "output_dir: runs/mine"), ("model:", "model: { path: some-model }"), ("data:", "data: { train: rows.jsonl }")];

    private static IEnumerable<TestCaseData> Pieces => Page.All.SelectMany(static p => p.Blocks.Where(static b => b.Language == "yaml" && !b.Text.StartsWith("tasks:", StringComparison.Ordinal))
        .Select(b => new TestCaseData(b.Text).SetArgDisplayNames($"{p.Name}:{b.Line}")));

    [TestCaseSource(nameof(Pieces))]
    public void A_piece_of_a_config_is_read(string text)
    {
        using var folder = new TemporaryFolder();
        var whole = string.Join('\n', s_needed.Where(n => !text.Split('\n').Any(l => l.StartsWith(n.Section, StringComparison.Ordinal))).Select(static n => n.Line).Append(text));
        Assert.That(() => RunConfigFile.Read(folder.Write("mine.yaml", whole), []), Throws.Nothing);
    }
}
