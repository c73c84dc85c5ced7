using NUnit.Framework;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>How layers are divided among devices.</summary>
public sealed class LayerSplitTests
{
    [Test]
    public void Equal_devices_share_equal_layers_and_the_ends_count() =>
        Assert.That(
            (LayerSplit.Of([1, 1, 1, 1, 1, 1], 0, 0, [10, 10]), LayerSplit.Of([1, 1, 1, 1, 1, 1], 0, 2, [10, 10]), LayerSplit.Of([1, 1, 1, 1, 1, 1], 4, 0, [10, 10])),
            Is.EqualTo((new[] { 3, 3 }, new[] { 4, 2 }, new[] { 1, 5 })));

    [Test]
    public void A_device_with_more_room_has_more_layers() => Assert.That(LayerSplit.Of([1, 1, 1, 1, 1, 1, 1, 1], 0, 0, [30, 10]), Is.EqualTo(new[] { 6, 2 }));

    [Test]
    public void No_other_division_leaves_more_room_on_the_fullest_device([Range(0, 40)] int seed)
    {
        var random = new Random(seed);
        var (devices, count) = (random.Next(1, 4), random.Next(4, 9));
        long[] layers = [.. Enumerable.Range(0, count).Select(_ => random.NextInt64(1, 100))];
        long[] room = [.. Enumerable.Range(0, devices).Select(_ => random.NextInt64(50, 500))];
        var (first, last) = (random.NextInt64(0, 200), random.NextInt64(0, 200));
        var found = LayerSplit.Of(layers, first, last, room);
        Assert.That((found.Sum(), found.Min()), Is.EqualTo((count, 1)).Or.Matches<(int Sum, int Least)>(f => f.Sum == count && f.Least >= 1));
        Assert.That(Fullness(found), Is.EqualTo(All(devices, count).Min(Fullness)).Within(1e-12));

        double Fullness(int[] counts)
        {
            var (most, start) = (0.0, 0);
            for (var d = 0; d < counts.Length; d++)
            {
                var bytes = layers.Skip(start).Take(counts[d]).Sum() + (d == 0 ? first : 0) + (d == counts.Length - 1 ? last : 0);
                most = Math.Max(most, bytes / (double)room[d]);
                start += counts[d];
            }

            return most;
        }
    }

    [Test]
    public void More_devices_than_layers_are_refused() => Assert.That(() => LayerSplit.Of([1, 1], 0, 0, [1, 1, 1]), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("2 layers, too few for 3 devices"));

    private static IEnumerable<int[]> All(int devices, int layers) => devices == 1 ? [[layers]]
        : Enumerable.Range(1, layers - devices + 1).SelectMany(own => All(devices - 1, layers - own).Select(rest => (int[])[own, .. rest]));
}
