using OpenWeights.Testing;
using NUnit.Framework;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>Documents that share a row, and tokens that come from a cache, give the numbers of documents alone.</summary>
public sealed class PackedRowsTests
{
    [Test]
    public void Logits_of_packed_documents_are_those_of_the_documents_alone()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        int[][] documents = [[5, 9, 2, 7, 7], [1, 3], [80, 4, 60, 2, 2, 9, 11]];
        var row = new TokenRow([.. documents.SelectMany(static d => d)], [.. documents.SelectMany(static d => d)], [.. documents.Select(static d => d.Length)], "test");
        var other = new TokenRow([1, 2, 3, 4], [1, 2, 3, 4], "test");
        var packed = loaded.Model.Logits(loaded.Model.call(TokenBatch.Of([row, other], padId: 0, CPU).Input));
        var start = 0;
        foreach (var document in documents)
        {
            var alone = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(tensor([.. document.Select(static i => (long)i)], [1, document.Length]))));
            Assert.That(Golden.LargestDifference(packed.narrow(0, 0, 1).narrow(1, start, document.Length), alone), Is.LessThan(1e-6));
            start += document.Length;
        }
    }

    [Test]
    public void Logits_from_a_cache_are_those_of_the_whole_text()
    {
        using var folder = new TemporaryFolder();
        using var loaded = ModelLoader.Load(TinyModel.Write(folder), float32, CPU);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        long[] ids = [.. Enumerable.Range(0, 90).Select(static i => (i * 37L) % TinyModel.Vocabulary)];
        var whole = loaded.Model.Logits(loaded.Model.call(ModelInput.Rows(tensor(ids, [1, ids.Length]))));
        using var cache = new KeyValueCache();

        // In parts of several sizes, past the place where the cache has to grow.
        foreach (var part in new[] { 50, 1, 1, 20, 1, 17 })
        {
            var past = cache.Length;
            var input = new ModelInput
            {
                InputIds = tensor(ids[past..(past + part)], [1, part]),
                PositionIds = arange(past, past + part, int64).unsqueeze(0),
                LongestPosition = past + part - 1,
                Cache = cache,
            };
            var logits = loaded.Model.Logits(loaded.Model.call(input));
            Assert.That(Golden.LargestDifference(logits, whole.narrow(1, past, part)), Is.LessThan(1e-6), $"{part} tokens after {past}");
        }
    }
}
