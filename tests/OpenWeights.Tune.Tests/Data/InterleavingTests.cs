using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Several data sets in one run.</summary>
public sealed class InterleavingTests
{
    [Test]
    public void Every_stretch_has_of_each_data_set_about_its_share_in_the_data_sets_own_order()
    {
        using var folder = new TemporaryFolder();
        DataSource Source(char name, int count) => new() { Path = folder.Write($"{name}.jsonl", string.Concat(Enumerable.Range(0, count).Select(i => $"{{\"text\": \"{name}{i}\"}}\n"))) };
        var section = new DataSection { Train = [Source('a', 60), Source('b', 30), Source('c', 10)], Packing = false };
        var texts = Rows.Read("", section: section).Train.Rows.Select(static r => Rows.Text(r).TrimEnd(CharacterTokenizer.End)).ToList();
        foreach (var (name, count) in new[] { ('a', 60), ('b', 30), ('c', 10) })
        {
            Assert.That(texts.Where(t => t[0] == name), Is.EqualTo(Enumerable.Range(0, count).Select(i => $"{name}{i}")));
            for (var end = 1; end <= texts.Count; end++)
            {
                Assert.That(texts.Take(end).Count(t => t[0] == name), Is.EqualTo(end * count / 100.0).Within(2), $"{name} among the first {end}");
            }
        }

        var again = Rows.Read("", section: section).Train.Rows.Select(static r => Rows.Text(r).TrimEnd(CharacterTokenizer.End));
        Assert.That(again, Is.EqualTo(texts));
    }
}
