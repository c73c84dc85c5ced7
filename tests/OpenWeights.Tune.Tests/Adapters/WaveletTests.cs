using NUnit.Framework;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Configuration;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Adapters;

/// <summary>The filters of wavelets, and the inverse transform by them.</summary>
[Category(TestDevice.CpuAlone)]
public sealed class WaveletTests
{
    private static IEnumerable<string> Names => SettingInfo.Of(typeof(WaveftConfig)).Single(static s => s.Key == "wavelet_family").Setting.OneOf;

    [TestCaseSource(nameof(Names))]
    public void Filters_are_orthogonal_to_their_even_shifts(string name)
    {
        var filter = Wavelets.LowPass(name);
        Assert.That(filter.Sum(), Is.EqualTo(Math.Sqrt(2)).Within(1e-9));
        for (var shift = 0; shift < filter.Length; shift += 2)
        {
            Assert.That(Enumerable.Range(0, filter.Length - shift).Sum(i => filter[i] * filter[i + shift]), Is.EqualTo(shift == 0 ? 1 : 0).Within(1e-9));
        }
    }

    // Daubechies, Ten Lectures on Wavelets, tables 6.1 and 6.3 (divided by the square root of 2 where they are sums of 2).
    [TestCase("db2", 0.482962913145, 0.836516303738, 0.224143868042, -0.129409522551)]
    [TestCase("db3", 0.332670552950, 0.806891509311, 0.459877502118, -0.135011020010)]
    [TestCase("sym4", 0.032223100604, -0.012603967262, -0.099219543577, 0.297857795606)]
    public void They_are_those_of_the_tables(string name, params double[] first) => Assert.That(Wavelets.LowPass(name).Take(first.Length), Is.EqualTo(first).Within(1e-9));

    [TestCaseSource(nameof(Names))]
    public void The_inverse_of_one_coefficient_is_the_product_of_its_filters(string name)
    {
        using var scope = NewDisposeScope();
        var (low, side) = (Wavelets.LowPass(name), 24);
        var bands = zeros([2 * side, 2 * side]);

        // In the middle of the low-pass quarter and of the one that is high-pass along the columns.
        _ = bands.select(0, 12).select(0, 12).fill_(1);
        _ = bands.select(0, 12 + side).select(0, 12).fill_(2);
        var made = Wavelets.Inverse(bands, name);
        double[] high = [.. low.Select((_, i) => (i % 2 == 0 ? 1 : -1) * low[low.Length - 1 - i])];
        var cut = ((2 * low.Length) - 3) / 2;
        for (var i = 0; i < low.Length; i++)
        {
            for (var j = 0; j < low.Length; j++)
            {
                Assert.That(made.select(0, 24 - cut + i).select(0, 24 - cut + j).item<float>(), Is.EqualTo((low[i] * low[j]) + (2 * low[i] * high[j])).Within(1e-5));
            }
        }
    }
}
