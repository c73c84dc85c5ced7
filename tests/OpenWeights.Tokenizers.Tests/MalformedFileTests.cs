using System.Text.Json.Nodes;

using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>tokenizer.json files that are wrong are refused with the file and the key.</summary>
public sealed class MalformedFileTests
{
    [TestCase("""{"version": "2.0"}""", "version")]
    [TestCase("""{"normalizer": {"type": "Nonsense"}}""", "normalizer: the normalizer \"Nonsense\" is not supported; these are: ")]
    [TestCase("""{"normalizer": {"type": 5}}""", "normalizer.type: must be a string, not 5")]
    [TestCase("""{"normalizer": {}}""", "normalizer.type: is missing")]
    [TestCase("""{"normalizer": [1]}""", "normalizer: must be an object")]
    [TestCase("""{"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip", "strip_left": 1, "strip_right": true}]}}""", "normalizer.normalizers[1].strip_left")]
    [TestCase("""{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "%%%"}}""", "normalizer.precompiled_charsmap")]
    [TestCase("""{"normalizer": {"type": "Replace", "pattern": {"Regex": "(a"}, "content": ""}}""", "normalizer.pattern.Regex: the regular expression")]
    [TestCase("""{"normalizer": {"type": "Replace", "pattern": "a", "content": ""}}""", "normalizer.pattern")]
    [TestCase("""{"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Sometimes", "invert": false}}""", "pre_tokenizer.behavior")]
    [TestCase("""{"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "1", "invert": false}}""", "pre_tokenizer.behavior")]
    [TestCase("""{"pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"}}""", "pre_tokenizer.invert: is missing")]
    [TestCase("""{"pre_tokenizer": {"type": "Metaspace", "replacement": "▁▁", "prepend_scheme": "always"}}""", "pre_tokenizer.replacement")]
    [TestCase("""{"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "sometimes"}}""", "pre_tokenizer.prepend_scheme")]
    [TestCase("""{"pre_tokenizer": {"type": "UnicodeScripts"}}""", "pre_tokenizer: the pre-tokenizer \"UnicodeScripts\" is not supported")]
    [TestCase("""{"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "X", "type_id": 0}}], "pair": [], "special_tokens": {}}}""", "post_processor.single[0].SpecialToken.id")]
    [TestCase("""{"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B", "type_id": 0}}], "pair": [], "special_tokens": {}}}""", "post_processor.single[0].Sequence.id")]
    [TestCase("""{"post_processor": {"type": "BertProcessing", "sep": ["x"], "cls": ["y", 1]}}""", "post_processor")]
    [TestCase("""{"decoder": {"type": "Sequence", "decoders": [null]}}""", "decoder.decoders[0]")]
    [TestCase("""{"decoder": {"type": "Strip", "content": "", "start": 1, "stop": 0}}""", "decoder.content")]
    [TestCase("""{"decoder": {"type": "Strip", "content": "a", "start": -1, "stop": 0}}""", "decoder.start")]
    [TestCase("""{"added_tokens": {"0": 1}}""", "added_tokens: must be an array")]
    [TestCase("""{"added_tokens": [{"id": "0", "content": "<|end|>"}]}""", "added_tokens[0].id")]
    [TestCase("""{"added_tokens": [{"id": 5, "content": "<|end|>"}]}""", "added_tokens[0].id: the token \"<|end|>\" has the id 5 here, but 0 before")]
    [TestCase("""{"added_tokens": [{"id": 5, "content": "new"}]}""", "added_tokens[0].id: the id 5 of the token \"new\" belongs to another token")]
    [TestCase("""{"added_tokens": [{"id": 900, "content": "new"}]}""", "added_tokens[0].id: the ids have a hole")]
    [TestCase("""{"model.type": "Neural"}""", "model.type: the model \"Neural\" is not supported")]
    [TestCase("""{"model.dropout": 0.1}""", "model.dropout")]
    [TestCase("""{"model.vocab": {"a": 0, "b": 0}, "model.merges": []}""", "model.vocab: the id 0 belongs to two tokens, \"a\" and \"b\"")]
    [TestCase("""{"model.vocab": {"a": -1}, "model.merges": []}""", "model.vocab: the id -1")]
    [TestCase("""{"model.vocab": {"a": 4000000000}, "model.merges": []}""", "model.vocab: the id of the token \"a\" must be a whole number")]
    [TestCase("""{"model.vocab": {"a": 2000000000}, "model.merges": []}""", "model.vocab: the id 2000000000")]
    [TestCase("""{"model.vocab": {"a": 1.5}, "model.merges": []}""", "model.vocab: the id of the token \"a\" must be a whole number")]
    [TestCase("""{"model.vocab": {"a": "0"}, "model.merges": []}""", "model.vocab: the id of the token \"a\" must be a whole number")]
    [TestCase("""{"model.vocab": [["a", 0.1]]}""", "model.vocab: must be an object")]
    [TestCase("""{"model.merges": ["ab"]}""", "model.merges: merge 0 is \"ab\"; it must have one space")]
    [TestCase("""{"model.merges": ["a b c"]}""", "model.merges: merge 0")]
    [TestCase("""{"model.merges": [["a"]]}""", "model.merges: merge 0")]
    [TestCase("""{"model.merges": [["a", "b", "c"]]}""", "model.merges: merge 0")]
    [TestCase("""{"model.merges": [5]}""", "model.merges: merge 0")]
    [TestCase("""{"model.merges": "a b"}""", "model.merges: must be an array")]
    [TestCase("""{"model.merges": [["Q", "Q"]]}""", "model.merges: merge 0 (\"Q\" with \"Q\") needs the token \"QQ\"")]
    [TestCase("""{"model.merges": [["Ġ", "nowhere"]]}""", "needs the token \"nowhere\"")]
    [TestCase("""{"model.continuing_subword_prefix": "##", "model.merges": [["a", "b"]]}""", "shorter than the continuing_subword_prefix")]
    [TestCase("""{"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.5]]}}""", "model.unk_id: 7 is no place")]
    [TestCase("""{"model": {"type": "Unigram", "vocab": [["a"]]}}""", "model.vocab: entry 0")]
    [TestCase("""{"model": {"type": "Unigram", "vocab": [["a", "b"]]}}""", "model.vocab: entry 0")]
    [TestCase("""{"model": {"type": "Unigram", "vocab": {"a": 1}}}""", "model.vocab: must be an array")]
    [TestCase("""{"model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"a": 0}}}""", "model.unk_token: \"[UNK]\" is not in the vocabulary")]
    [TestCase("""{"model": 5}""", "model: is missing or no object")]
    public void The_message_begins_with_the_file_and_names_the_key(string change, string message)
    {
        using var folder = new TestFolder();
        var file = folder.Write("tokenizer.json", SmallTokenizers.Changed("bytes", JsonNode.Parse(change)!.AsObject()).ToJsonString());
        Assert.That(() => Tokenizer.Load(file), Throws.TypeOf<InvalidDataException>().With.Message.StartsWith(file + ": ").And.Message.Contains(message));
    }

    [Test]
    public void An_added_token_that_is_listed_twice_is_one_token()
    {
        using var folder = new TestFolder();
        var file = folder.Write("tokenizer.json", SmallTokenizers.Changed("bytes", JsonNode.Parse("""{"added_tokens": [{"id": 0, "content": "<|end|>", "special": false}, {"id": 0, "content": "<|end|>", "special": true}]}""")!.AsObject()).ToJsonString());
        Assert.That(Tokenizer.Load(file).Encode("<|end|>", addSpecialTokens: false), Is.EqualTo(new[] { 0 }));
    }

    [TestCase("", "the file is empty")]
    [TestCase("{", "line 1")]
    [TestCase("{\"version\": \"1.0\",\n \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\" 0}}}", "line 2")]
    [TestCase("{\"model\": {\"vocab\": {\"a\\ud800\": 0}}}", "surrogate")]
    [TestCase("{\"model\": {\"vocab\": {\"a\": 0,}}}", "line 1")]
    [TestCase("{\"model\": {\"vocab\": {}, \"merges\": []}} x", "follows")]
    [TestCase("{\"model\": {\"vocab\": {\"a\": 0}, \"continuing_subword_prefix\": null, \"merges\": [\"a", "does not end")]
    [TestCase("[1, 2]", "this is no JSON object")]
    public void Text_that_is_no_JSON_is_refused_with_the_place(string text, string message)
    {
        using var folder = new TestFolder();
        var file = folder.Write("tokenizer.json", text);
        Assert.That(() => Tokenizer.Load(file), Throws.TypeOf<InvalidDataException>().With.Message.StartsWith(file).And.Message.Contains(message));
    }

    [Test]
    public void Nesting_without_end_is_refused()
    {
        using var folder = new TestFolder();
        var file = folder.Write("tokenizer.json", "{\"decoder\": " + string.Concat(Enumerable.Repeat("""{"type": "Sequence", "decoders": [""", 5000)));
        Assert.That(() => Tokenizer.Load(file), Throws.TypeOf<InvalidDataException>().With.Message.StartsWith(file));
    }

    [Test]
    public void Holes_in_the_vocabularys_ids_stay_holes()
    {
        var tokenizer = SmallTokenizers.Load(SmallTokenizers.Changed("bytes", JsonNode.Parse(
            """{"added_tokens": [], "model.vocab": {"a": 0, "b": 7, "ab": 3}, "model.merges": ["a b"]}""")!.AsObject()));
        Assert.That(tokenizer.VocabularySize, Is.EqualTo(8));
        Assert.That(tokenizer.Encode("abb", addSpecialTokens: false), Is.EqualTo(new[] { 3, 7 }));
        Assert.That((tokenizer.IdToToken(1), tokenizer.IdToToken(3)), Is.EqualTo(((string?)null, "ab")));
        Assert.That(tokenizer.Decode([0, 1, 7], skipSpecialTokens: false), Is.EqualTo("ab"));
    }

    [Test]
    public void The_order_of_the_models_keys_does_not_matter()
    {
        var json = SmallTokenizers.Json("bytes");
        var model = json["model"]!.AsObject();
        var reversed = new JsonObject(model.Reverse().Select(p => KeyValuePair.Create(p.Key, p.Value?.DeepClone())));
        const string Text = "The quick brown fox, 你好 123";
        var wanted = SmallTokenizers.Load(json).Encode(Text, addSpecialTokens: true);
        Assert.That(SmallTokenizers.Load(SmallTokenizers.Changed("bytes", new JsonObject { ["model"] = reversed })).Encode(Text, addSpecialTokens: true), Is.EqualTo(wanted));
    }

    [Test]
    public void A_byte_order_mark_and_escapes_are_read()
    {
        using var folder = new TestFolder();
        var json = SmallTokenizers.Json("pieces");
        var escaped = json.ToJsonString(new System.Text.Json.JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.Default });
        var tokenizer = Tokenizer.Load(folder.Write("tokenizer.json", "\uFEFF" + escaped));
        Assert.That(escaped, Does.Contain("\\u2581"));
        Assert.That(tokenizer.TokenToId("▁the"), Is.Not.Null);
    }
}
