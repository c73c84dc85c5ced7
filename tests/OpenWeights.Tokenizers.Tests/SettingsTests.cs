using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>What lies beside a tokenizer.</summary>
public sealed class SettingsTests
{
    [Test]
    public void Special_tokens_come_as_strings_or_objects_from_the_config_and_then_from_the_map()
    {
        using var folder = Folder();
        _ = folder.Write("tokenizer_config.json", """{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null, "model_max_length": 5}""");
        _ = folder.Write("special_tokens_map.json", """{"eos_token": "<unk>", "pad_token": "</s>", "unk_token": {"content": "<unk>"}, "additional_special_tokens": ["<s>"]}""");
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That((tokenizer.BosToken, tokenizer.EosToken, tokenizer.PadToken, tokenizer.UnknownToken), Is.EqualTo((1, 2, 2, 0)));
        Assert.That(tokenizer.SpecialTokens["eos_token"], Is.EqualTo("</s>"));
    }

    [Test]
    public void Without_settings_there_are_no_special_tokens_and_no_template()
    {
        using var folder = Folder();
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That((tokenizer.BosToken, tokenizer.EosToken, tokenizer.PadToken, tokenizer.UnknownToken), Is.EqualTo(((int?)null, (int?)null, (int?)null, (int?)null)));
        Assert.That(tokenizer.ChatTemplateText, Is.Null);
    }

    [Test]
    public void A_template_file_comes_before_the_config_and_the_config_before_the_old_file()
    {
        using var folder = Folder();
        _ = folder.Write("chat_template.json", """{"chat_template": "old"}""");
        Assert.That(Tokenizer.Load(folder.Path).ChatTemplateText, Is.EqualTo("old"));
        _ = folder.Write("tokenizer_config.json", """{"chat_template": "config"}""");
        Assert.That(Tokenizer.Load(folder.Path).ChatTemplateText, Is.EqualTo("config"));
        _ = folder.Write("chat_template.jinja", "file");
        _ = folder.Write("additional_chat_templates/rag.jinja", "for documents");
        var tokenizer = Tokenizer.Load(Path.Combine(folder.Path, "tokenizer.json"));
        Assert.That(tokenizer.ChatTemplateText, Is.EqualTo("file"));
        Assert.That(tokenizer.ChatTemplates["rag"], Is.EqualTo("for documents"));
    }

    [Test]
    public void Of_named_templates_the_default_is_the_template()
    {
        using var folder = Folder();
        _ = folder.Write("tokenizer_config.json", """{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}""");
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That((tokenizer.ChatTemplateText, tokenizer.ChatTemplates["tool_use"]), Is.EqualTo(("D", "T")));
        Assert.That((tokenizer.ChatTemplateFor(withTools: false), tokenizer.ChatTemplateFor(withTools: true)), Is.EqualTo(("D", "T")));
    }

    [Test]
    public void A_template_is_found_in_a_folder_or_file_without_a_tokenizer()
    {
        using var folder = new TestFolder();
        var config = folder.Write("tokenizer_config.json", """{"chat_template": "T", "eos_token": {"content": "</s>"}}""");
        foreach (var path in new[] { folder.Path, config })
        {
            var files = ChatTemplateFiles.Load(path);
            Assert.That((files.TextFor(withTools: false), files.SpecialTokens["eos_token"]), Is.EqualTo(("T", "</s>")));
        }

        File.Delete(config);
        Assert.That(() => ChatTemplateFiles.Load(folder.Path), Throws.TypeOf<FileNotFoundException>().With.Message.Contains("no tokenizer"));
    }

    [Test]
    public void Tokens_that_only_the_config_has_are_added()
    {
        using var folder = Folder();
        var size = Tokenizer.Load(folder.Path).VocabularySize;
        var config = """{"added_tokens_decoder": {"SIZE": {"content": "<|new|>", "special": true}, "1": {"content": "<s>", "special": true}}}""";
        _ = folder.Write("tokenizer_config.json", config.Replace("SIZE", $"{size}", StringComparison.Ordinal));
        var tokenizer = Tokenizer.Load(folder.Path);
        Assert.That(tokenizer.Encode("the<|new|>", addSpecialTokens: false)[^1], Is.EqualTo(size));
        Assert.That(tokenizer.IsSpecial(size), Is.True);
        Assert.That(tokenizer.VocabularySize, Is.EqualTo(size + 1));
    }

    [TestCase("""{"added_tokens_decoder": {"1": {"content": "<|new|>"}}}""", "added_tokens_decoder.1")]
    [TestCase("""{"added_tokens_decoder": {"x": {"content": "<|new|>"}}}""", "added_tokens_decoder.x")]
    [TestCase("""{"added_tokens_decoder": {"999": {"content": 5}}}""", "added_tokens_decoder.999.content")]
    [TestCase("""{"chat_template": 5}""", "chat_template")]
    [TestCase("""{"chat_template": [{"name": "a"}]}""", "chat_template[0].template")]
    [TestCase("""{"add_bos_token": "yes"}""", "add_bos_token")]
    [TestCase("[1]", "must be a JSON object")]
    [TestCase("{", "not valid JSON at line 1")]
    public void A_wrong_config_is_refused_with_the_file_and_the_key(string config, string key)
    {
        using var folder = Folder();
        var file = folder.Write("tokenizer_config.json", config);
        Assert.That(() => Tokenizer.Load(folder.Path), Throws.TypeOf<InvalidDataException>().With.Message.StartsWith(file).And.Message.Contains(key));
    }

    [Test]
    public void An_empty_folder_and_a_missing_path_are_reported()
    {
        using var folder = new TestFolder();
        Assert.That(() => Tokenizer.Load(folder.Path), Throws.TypeOf<FileNotFoundException>().With.Message.Contains("tokenizer.json"));
        var missing = Path.Combine(folder.Path, "nowhere");
        Assert.That(() => Tokenizer.Load(missing), Throws.TypeOf<FileNotFoundException>().With.Message.StartsWith(missing));
    }

    private static TestFolder Folder()
    {
        var folder = new TestFolder();
        _ = folder.Write("tokenizer.json", SmallTokenizers.Json("pieces").ToJsonString());
        return folder;
    }
}
