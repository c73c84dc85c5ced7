using NUnit.Framework;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Tests.Models.Families;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>Several texts that are read together, each with a cache of its own, against each of them alone.</summary>
public sealed class BatchOfTextsTests
{
    private static readonly int[] s_lengths = [3, 30, 1, 9, 17];

    [Test]
    public void Each_text_has_the_states_that_it_has_alone([ValueSource(typeof(FamilyCases), nameof(FamilyCases.Names))] string name)
    {
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var model = FamilyCases.Make(name);
        Assume.That(model.Stack.Layers.Any(static l => l.Needs.Rope?.DependsOnLength == true), Is.False, "rotary tables of a batch are for one length");
        var texts = s_lengths.Select(static (length, text) => Enumerable.Range(0, length + 6).Select(i => (long)(((i * 37) + (text * 11) + (i * i * text)) % FamilyCases.Vocabulary)).ToArray()).ToList();
        var (alone, together) = (Caches(), Caches());

        // Beginnings, then some more tokens of each, and then one at a time.
        foreach (var (from, count) in new (Func<int, int> From, Func<int, int> Count)[] { (static _ => 0, static l => l), (static l => l, static l => 1 + (l % 3)), (static l => l + 1 + (l % 3), static _ => 1), (static l => l + 2 + (l % 3), static _ => 1) })
        {
            var own = Inputs(texts, alone, from, count).Select(model.call).ToList();
            var parts = Inputs(texts, together, from, count);
            var areRows = parts.All(static p => p.InputIds.size(1) == 1);
            var batch = new ModelInput
            {
                InputIds = cat([.. parts.Select(static p => p.InputIds)], areRows ? 0 : 1),
                PositionIds = cat([.. parts.Select(static p => p.PositionIds)], areRows ? 0 : 1),
                LongestPosition = parts.Max(static p => p.LongestPosition),
                Texts = parts,
            };
            var found = model.call(batch).view(-1, model.Config.HiddenSize);

            // States of a recurrence go on from ones that were rounded in another order.
            Assert.That(found.sub(cat([.. own.Select(o => o.view(-1, model.Config.HiddenSize))], 0)).abs().max().item<float>(), Is.LessThan(3e-4f), $"{name}, from {from(0)}");
            Assert.That(together.Select(static c => (c.Length, c.LongestPosition)), Is.EqualTo(alone.Select(static c => (c.Length, c.LongestPosition))));
        }

        alone.Concat(together).ToList().ForEach(static c => c.Dispose());
    }

    private static List<DecoderCache> Caches() => [.. s_lengths.Select(static _ => new DecoderCache())];

    private static List<ModelInput> Inputs(List<long[]> texts, List<DecoderCache> caches, Func<int, int> from, Func<int, int> count) => [.. texts.Select((tokens, i) =>
    {
        var (first, number) = (from(s_lengths[i]), count(s_lengths[i]));
        return new ModelInput
        {
            InputIds = tensor(tokens[first..(first + number)], [1, number]),
            PositionIds = arange(first, first + number, int64).unsqueeze(0),
            LongestPosition = first + number - 1,
            Cache = caches[i],
        };
    })];
}
