using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>What checkpoints have beside their tokenizer: added_tokens.json, and settings that say what is put around a text.</summary>
public sealed class OlderFilesTests
{
    private const string Json = """
        {"version": "1.0", "added_tokens": [{"id": 2, "content": "<s>", "special": true}, {"id": 3, "content": "</s>", "special": true}],
         "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}}},
         "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}
        """;

    [TestCase("{}", new[] { 2, 0 })]
    [TestCase("""{"add_bos_token": false}""", new[] { 0 })]
    [TestCase("""{"add_bos_token": true}""", new[] { 2, 0 })]
    [TestCase("""{"add_eos_token": true}""", new[] { 0, 3 })]
    [TestCase("""{"add_bos_token": true, "add_eos_token": true}""", new[] { 2, 0, 3 })]
    [TestCase("""{"add_bos_token": false, "add_eos_token": false}""", new[] { 0 })]
    [TestCase("""{"add_bos_token": null, "add_eos_token": null}""", new[] { 2, 0 })]
    public void Either_key_says_what_is_put_around_a_text_whatever_tokenizer_json_has(string settings, int[] expected)
    {
        using var folder = new TestFolder();
        _ = folder.Write("tokenizer.json", Json);
        _ = folder.Write("tokenizer_config.json", settings.Insert(1, "\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"" + (settings.Length > 2 ? ", " : "")));
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That(tokenizer.Encode("a", addSpecialTokens: true), Is.EqualTo(expected));
        Assert.That(tokenizer.EncodeWithOffsets("a", addSpecialTokens: true).Select(static t => t.Id), Is.EqualTo(expected));
        Assert.That(tokenizer.Encode("a", addSpecialTokens: false), Is.EqualTo(new[] { 0 }));
    }

    [Test]
    public void Tokens_of_added_tokens_json_are_tokens_and_special_where_a_setting_names_them()
    {
        using var folder = new TestFolder();
        _ = folder.Write("vocab.json", """{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}""");
        _ = folder.Write("merges.txt", "a b\n");
        _ = folder.Write("added_tokens.json", """{"<|im_end|>": 5, "<|im_start|>": 4, "<tool>": 6}""");
        _ = folder.Write("tokenizer_config.json", """{"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"}""");
        _ = folder.Write("special_tokens_map.json", """{"additional_special_tokens": ["<|im_start|>", {"content": "<|im_end|>"}]}""");
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That(tokenizer.Encode("<|im_start|>ab<tool><|im_end|>", addSpecialTokens: false), Is.EqualTo(new[] { 4, 2, 6, 5 }));
        Assert.That((tokenizer.EosToken, tokenizer.VocabularySize), Is.EqualTo((5, 7)));
        Assert.That(new[] { 4, 5, 6 }.Select(tokenizer.IsSpecial), Is.EqualTo(new[] { true, true, false }));
        Assert.That(tokenizer.Decode([4, 2, 6, 5], skipSpecialTokens: true), Is.EqualTo("ab<tool>"));
    }

    [Test]
    public void Added_tokens_json_is_not_looked_at_where_newer_settings_say_which_tokens_there_are()
    {
        using var folder = new TestFolder();
        _ = folder.Write("vocab.json", """{"a": 0, "b": 1}""");
        _ = folder.Write("merges.txt", "");
        _ = folder.Write("added_tokens.json", """{"<old>": 2}""");
        _ = folder.Write("tokenizer_config.json", """{"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {"2": {"content": "<new>", "special": true}}}""");
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That((tokenizer.TokenToId("<new>"), tokenizer.TokenToId("<old>")), Is.EqualTo(((int?)2, (int?)null)));
    }

    [Test]
    public void Another_chat_template_takes_the_place_of_all()
    {
        using var folder = new TestFolder();
        _ = folder.Write("tokenizer.json", Json);
        _ = folder.Write("tokenizer_config.json", """{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}""");
        var tokenizer = Tokenizer.Load(folder.Path).WithChatTemplate("N");
        Assert.That((tokenizer.ChatTemplateText, tokenizer.ChatTemplateFor(withTools: true)), Is.EqualTo(("N", "N")));
        Assert.That(tokenizer.Encode("ab", addSpecialTokens: true), Is.EqualTo(new[] { 2, 0, 1 }));
    }
}
