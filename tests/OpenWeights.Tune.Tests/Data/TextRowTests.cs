using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Rows of reward models, classifiers and embeddings.</summary>
public sealed class TextRowTests
{
    private static readonly string s_folder = Path.Combine(SharedFiles.Root, "datasets", "quickstart", "base");

    [Test]
    public void The_prompt_of_two_whole_texts_is_what_they_begin_with()
    {
        var tokenizer = Tokenizer(RowKind.Pairs);
        var rows = new PreferenceFormat().Read(Row("""{"chosen": "the date: one two", "rejected": "the date: one six", "margin": "1.5"}"""), tokenizer);
        Assert.That(rows.Select(static r => r.Role), Is.EqualTo(new[] { RowRole.Chosen, RowRole.Rejected }));
        Assert.That(rows[0].Margin, Is.EqualTo(1.5));
        Assert.That(rows.Select(r => tokenizer.Tokenizer.Decode(r.Ids.Where((_, i) => r.Labels[i] != TokenRow.Ignored), skipSpecialTokens: true)), Is.EqualTo(new[] { " two", " six" }));
        Assert.That(() => new PreferenceFormat().Read(Row("""{"prompt": "a", "chosen": "b", "rejected": "c", "margin": "much"}"""), tokenizer), Throws.TypeOf<InvalidDataException>().With.Message.Contains("\"margin\" is"));
    }

    [TestCase("\"spring\"", "spring")]
    [TestCase("\" spring \"", "spring")]
    [TestCase("3", "3")]
    [TestCase("3.0", "3")]
    [TestCase("true", "true")]
    public void A_class_is_a_name_or_a_whole_number(string label, string expected)
    {
        var row = Format(RowKind.Classified, $$"""{"text": "the date", "label": {{label}}}""").Single();
        Assert.That((row.Role, row.Label), Is.EqualTo((RowRole.Classified, expected)));
        Assert.That(row.Ids, Is.EqualTo(Tokenizer(null).Tokenizer.Encode("the date", addSpecialTokens: true)), "no token is added to the tokenizer's own");
    }

    [TestCase("""{"text": "the date"}""", "\"label\" is missing")]
    [TestCase("""{"text": "the date", "label": 0.5}""", "whole number")]
    [TestCase("""{"text": "the date", "label": ["a", "b"]}""", "one class")]
    [TestCase("""{"text": "", "label": "a"}""", "without tokens")]
    public void What_is_no_class_is_refused(string row, string message) => Assert.That(() => Format(RowKind.Classified, row), Throws.TypeOf<InvalidDataException>().With.Message.Contains(message));

    [Test]
    public void A_chat_is_classified_as_the_template_writes_it_without_an_answer()
    {
        var row = Format(RowKind.Classified, """{"messages": [{"role": "user", "content": "the date"}], "label": "a"}""").Single();
        Assert.That(Tokenizer(null).Tokenizer.Decode(row.Ids, skipSpecialTokens: false), Is.EqualTo("<|im_start|>user\nthe date<|im_end|>\n"));
    }

    [TestCase("""{"anchor": "one", "positive": "two"}""", "Q: one|D: two")]
    [TestCase("""{"query": "one", "document": "two", "negative": "six"}""", "Q: one|D: two|D: six")]
    [TestCase("""{"anchor": "one", "positive": ["two"], "negatives": ["six", "ten"]}""", "Q: one|D: two|D: six|D: ten")]
    [TestCase("""{"anchor": "one", "positive": "two", "negative_1": "six", "negative_2": "ten"}""", "Q: one|D: two|D: six|D: ten")]
    public void Related_texts_are_an_anchor_a_positive_and_negatives_each_with_its_prompt(string row, string expected)
    {
        var made = Format(null, row).Single();
        var (texts, start) = (new List<string>(), 0);
        foreach (var length in made.Documents)
        {
            texts.Add(Tokenizer(null).Tokenizer.Decode(made.Ids[start..(start + length)], skipSpecialTokens: true));
            start += length;
        }

        Assert.That(string.Join('|', texts), Is.EqualTo(expected));
    }

    private static RowTokenizer Tokenizer(RowKind? kind) => new(s_folder, "assistant") { Kind = kind, QueryPrompt = "Q: ", DocumentPrompt = "D: " };

    private static DataRow Row(string json) => new(JsonNode.Parse(json)!.AsObject(), "rows.jsonl:1");

    private static IReadOnlyList<TokenRow> Format(RowKind? kind, string json) => RowFormats.Find("auto", Row(json), Row(json), kind).Read(Row(json), Tokenizer(kind));
}
