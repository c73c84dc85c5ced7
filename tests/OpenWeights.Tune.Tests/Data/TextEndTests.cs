using NUnit.Framework;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Tests.Export;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>What begins and ends a text: once, and never left out without a word.</summary>
public sealed class TextEndTests
{
    [TestCase("hi", new[] { SmallTokenizer.Bos, 'h', 'i', SmallTokenizer.Eos })]
    [TestCase("<s>hi", new[] { SmallTokenizer.Bos, 'h', 'i', SmallTokenizer.Eos })]
    [TestCase("<s>hi</s>", new[] { SmallTokenizer.Bos, 'h', 'i', SmallTokenizer.Eos })]
    [TestCase("<s><s>hi", new[] { SmallTokenizer.Bos, SmallTokenizer.Bos, 'h', 'i', SmallTokenizer.Eos })]
    public void A_text_that_begins_or_ends_with_the_token_gets_no_second_one(string text, int[] expected)
    {
        using var folder = new TemporaryFolder();
        foreach (var addsEos in new[] { false, true })
        {
            SmallTokenizer.Write(folder.Root, change: s => s["add_eos_token"] = addsEos);
            var row = new RowTokenizer(folder.Root, "all").Plain(text, 0, "here");
            Assert.That(Bytes(folder.Root, row.Ids), Is.EqualTo(expected));
            Assert.That(row.Labels[^1], Is.EqualTo(SmallTokenizer.Eos), "the end is trained");
            var prompt = Tokenizer.Load(folder.Root).EncodePrompt(text);
            Assert.That(Bytes(folder.Root, prompt), Is.EqualTo(expected[..^1]), "a prompt has no end");
        }
    }

    [Test]
    public void An_end_that_the_vocabulary_lacks_is_refused_for_texts_and_not_for_chats()
    {
        using var folder = new TemporaryFolder();
        SmallTokenizer.Write(folder.Root, change: static s => s["eos_token"] = "<|endofturn|>");
        var rows = new RowTokenizer(folder.Root, "assistant");
        Assert.That(() => rows.Plain("hi", 0, "here"), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("<|endofturn|>").And.Message.Contains("vocabulary"));
        Assert.That(EndTokens.OfTemplate(rows.Tokenizer), Is.EqualTo(SmallTokenizer.TurnEnd));
    }

    [Test]
    public void A_special_token_that_the_template_writes_and_the_vocabulary_lacks_is_told()
    {
        using var folder = new TemporaryFolder();
        SmallTokenizer.Write(folder.Root, change: static s => (s["bos_token"], s["chat_template"]) = ("<bos>", "{{ bos_token }}" + SmallTokenizer.ChatMl));
        Assert.That(new RowTokenizer(folder.Root, "assistant").Chat!.Warnings, Has.One.Contains("bos_token").And.One.Contains("<bos>"));
    }

    [Test]
    public void Where_the_tokenizer_names_no_end_the_configs_does_and_where_nothing_does_it_is_told()
    {
        using var folder = new TemporaryFolder();
        SmallTokenizer.Write(folder.Root, change: static s => s.Remove("eos_token"));
        var without = new RowTokenizer(folder.Root, "all");
        Assert.That(Bytes(folder.Root, without.Plain("hi", 0, "here").Ids), Is.EqualTo(new[] { SmallTokenizer.Bos, 'h', 'i' }));
        Assert.That(without.Warnings, Has.One.Contains("eos_token"));
        folder.Write("config.json", $$"""{"model_type": "llama", "eos_token_id": {{SmallTokenizer.Eos}}}""");
        var declared = new RowTokenizer(folder.Root, "all");
        Assert.That(declared.Plain("hi", 0, "here").Ids[^1], Is.EqualTo(SmallTokenizer.Eos));
        Assert.That(declared.Warnings, Is.Empty);
    }

    [Test]
    public void The_end_of_a_turn_in_the_chat_template_ends_answers_too()
    {
        using var folder = new TemporaryFolder();
        SmallTokenizer.Write(folder.Root);
        folder.Write("config.json", $$"""{"model_type": "llama", "eos_token_id": {{SmallTokenizer.Eos}}}""");
        var tokenizer = Tokenizer.Load(folder.Root);
        Assert.That(EndTokens.Of(ModelFolder.Open(folder.Root), tokenizer), Is.EqualTo(new[] { SmallTokenizer.Eos, SmallTokenizer.TurnEnd }));
        Assert.That(EndTokens.OfTemplate(tokenizer.WithChatTemplate("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}")), Is.EqualTo(SmallTokenizer.Eos));
        Assert.That(EndTokens.OfTemplate(tokenizer.WithChatTemplate("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}")), Is.Null, "a line's end is no token of its own");
        Assert.That(EndTokens.OfTemplate(tokenizer.WithChatTemplate("{{ raise_exception('no') }}")), Is.Null);
    }

    // The tokenizer's letters for bytes come in an order of their own.
    private static int[] Bytes(string folder, int[] ids)
    {
        var tokenizer = Tokenizer.Load(folder);
        return [.. ids.Select(id => id >= 256 ? id : tokenizer.Decode([id], skipSpecialTokens: false)[0])];
    }
}
