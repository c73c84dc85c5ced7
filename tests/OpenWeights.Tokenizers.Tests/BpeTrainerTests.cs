using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Training a byte-level BPE tokenizer.</summary>
public sealed class BpeTrainerTests
{
    private const string Text = "low low low low low lower lower newest newest newest newest newest newest widest widest widest 2024 2025";

    [Test]
    public void Merges_come_by_count_and_then_by_id()
    {
        var tokenizer = Load(BpeTrainer.Train([Text], 400, []));
        var learned = Enumerable.Range(256, tokenizer.VocabularySize - 256).Select(tokenizer.IdToToken).ToArray();

        // "es", "st" and "Ġn", "ew" ... of the classic example: es and st occur nine times each; "e" comes before "s", so es is first.
        Assert.That(learned[0], Is.EqualTo("es"));
        Assert.That(learned[1], Is.EqualTo("est"));
        Assert.That(learned, Does.Contain("Ġnewest").And.Contain("Ġlow"));
        Assert.That(learned, Does.Not.Contain("20"), "digits stay apart");
    }

    [Test]
    public void What_it_writes_can_be_loaded_and_gives_any_text_back()
    {
        var tokenizer = Load(BpeTrainer.Train([Text, "你好，世界"], 300, ["<|endoftext|>", "<|im_start|>"]));
        const string Other = "<|im_start|>Something else: 你好 😀\n\t 3.14<|endoftext|>";
        var ids = tokenizer.Encode(Other, addSpecialTokens: true);
        Assert.That((ids[0], ids[^1]), Is.EqualTo((1, 0)));
        Assert.That(tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: false), Is.EqualTo(Other));
        Assert.That(tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: true), Is.EqualTo("Something else: 你好 😀\n\t 3.14"));
    }

    [Test]
    public void The_order_of_the_texts_does_not_matter()
    {
        string[] texts = ["the cat sat", "on the mat", "the end of the cat"];
        Assert.That(BpeTrainer.Train(texts.Reverse(), 280, ["<s>"], minimumCount: 1), Is.EqualTo(BpeTrainer.Train(texts, 280, ["<s>"], minimumCount: 1)));
    }

    [Test]
    public void Special_tokens_in_the_texts_are_not_learned_from()
    {
        var tokenizer = Load(BpeTrainer.Train([string.Concat(Enumerable.Repeat("<|endoftext|>", 50)) + "ab ab ab"], 400, ["<|endoftext|>"]));
        Assert.That(Enumerable.Range(257, tokenizer.VocabularySize - 257).Select(tokenizer.IdToToken), Is.EquivalentTo(new[] { "ab", "Ġab" }));
    }

    [Test]
    public void A_small_vocabulary_over_a_book_is_filled_and_shortens_it()
    {
        var book = File.ReadAllText(Path.Combine(SharedFiles.Root, "tests", "fixtures", "make", "corpus.txt"));
        var tokenizer = Load(BpeTrainer.Train([book], 512, ["<|endoftext|>"]));
        Assert.That(tokenizer.VocabularySize, Is.EqualTo(512));
        var ids = tokenizer.Encode(book, addSpecialTokens: false);
        Assert.That(ids, Has.Length.LessThan(book.Length * 6 / 10));
        Assert.That(tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: false), Is.EqualTo(book));
    }

    [Test]
    public void The_vocabulary_stays_smaller_where_no_pair_is_frequent_enough()
    {
        Assert.That(Load(BpeTrainer.Train(["abc"], 1000, [])).VocabularySize, Is.EqualTo(256));
        Assert.That(Load(BpeTrainer.Train(["abc"], 1000, [], minimumCount: 1)).VocabularySize, Is.EqualTo(258));
        Assert.That(Load(BpeTrainer.Train([], 1000, [])).VocabularySize, Is.EqualTo(256));
    }

    [Test]
    public void Wishes_that_cannot_be_met_are_refused()
    {
        Assert.That(() => BpeTrainer.Train([Text], 256, ["<s>"]), Throws.ArgumentException.With.Message.Contains("no room"));
        Assert.That(() => BpeTrainer.Train([Text], 300, ["<s>", "<s>"]), Throws.ArgumentException.With.Message.Contains("repeated"));
        Assert.That(() => BpeTrainer.Train([Text], 300, [""]), Throws.ArgumentException);
        Assert.That(() => BpeTrainer.Train([Text], 300, ["a"]), Throws.ArgumentException.With.Message.Contains("byte"));
        Assert.That(() => BpeTrainer.Train([Text], 300, [], minimumCount: 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
    }

    private static Tokenizer Load(string json)
    {
        using var folder = new TestFolder();
        return Tokenizer.Load(folder.Write("tokenizer.json", json));
    }
}
