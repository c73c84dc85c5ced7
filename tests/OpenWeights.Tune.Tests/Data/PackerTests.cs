using NUnit.Framework;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Packing: nothing lost, nothing too long, little room left.</summary>
public sealed class PackerTests
{
    [Test]
    public void Every_document_is_in_exactly_one_row_whole_and_no_row_is_too_long()
    {
        var random = new Random(1);
        var rows = Enumerable.Range(0, 500).Select(i => Row(i, random.Next(1, 65))).ToList();
        var packed = Packed(rows, 64);
        Assert.That(packed.All(static r => r.Ids.Length <= 64 && r.Documents.Sum() == r.Ids.Length));
        var documents = packed.SelectMany(static r => r.Documents.Select((length, d) => r.Ids.Skip(r.Documents.Take(d).Sum()).Take(length).ToArray())).OrderBy(static d => d[0]).ToList();
        Assert.That(documents, Is.EqualTo(rows.Select(static r => r.Ids)));
    }

    [Test]
    public void Rows_of_many_lengths_fill_more_than_97_percent()
    {
        var random = new Random(2);
        var rows = Enumerable.Range(0, 2000).Select(i => Row(i, 1 + (int)(500 * random.NextDouble() * random.NextDouble()))).ToList();
        var packed = Packed(rows, 1024);
        Assert.That(rows.Sum(static r => (double)r.Ids.Length) / (packed.Count * 1024.0), Is.GreaterThan(0.97));
    }

    [Test]
    public void Packing_is_the_same_each_time()
    {
        var random = new Random(3);
        var rows = Enumerable.Range(0, 200).Select(i => Row(i, random.Next(1, 33))).ToList();
        var first = Packed(rows, 32).Select(static r => r.Source).ToList();
        Assert.That(Packed(rows, 32).Select(static r => r.Source), Is.EqualTo(first));
    }

    private static List<TokenRow> Packed(List<TokenRow> rows, int length) =>
        [.. Packer.Bins([.. rows.Select(static r => r.Ids.Length)], length).Select(bin => Packer.Join([.. bin.Select(i => rows[i])]))];

    private static TokenRow Row(int number, int length) => new([.. Enumerable.Repeat(number, length)], [.. Enumerable.Repeat(number, length)], $"row {number}");
}
