using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Json.Schema;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Tests.Decoding.Grammars;

/// <summary>Texts of JSON schemas, enforced token by token, judged by another reader of schemas.</summary>
public sealed class JsonGrammarTests
{
    private static readonly JsonSerializerOptions s_plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
    private static readonly JsonSerializerOptions s_indented = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, WriteIndented = true, NewLine = "\n" };

    private static IEnumerable<string> Tokenizers => SharedFiles.Present(["qwen3", "llama-3", "phi-3-mini", "mistral-7b-v0.1", "phi-2", "llama-2"], "fixtures", "tokenizers");

    [Test]
    public void Whatever_is_sampled_parses_and_satisfies_the_schema([Range(0, 149)] int seed)
    {
        var random = new Random(seed);
        var schema = new RandomSchemas(random).Schema(3);
        var text = Walk.Random(JsonGrammar.Of(schema), SmallVocabulary.Vocabulary, SmallVocabulary.BytesOf, SmallVocabulary.End, random, escapes: false);
        Assert.That(IsValid(schema, text), Is.True, $"{schema.ToJsonString(s_plain)}\n{text}");
    }

    [Test]
    public void A_text_that_satisfies_the_schema_is_accepted_however_it_is_cut_into_tokens([Range(0, 149)] int seed)
    {
        var random = new Random(seed);
        var schemas = new RandomSchemas(random);
        var schema = schemas.Schema(3);
        var value = schemas.Value(schema);
        var text = value is null ? "null" : value.ToJsonString(random.Next(2) == 0 ? s_plain : s_indented);
        Assert.That(IsValid(schema, text), Is.True, "the sample of this test");
        Assert.That(Walk.Accepts(JsonGrammar.Of(schema), SmallVocabulary.Vocabulary, SmallVocabulary.Split(text, random), SmallVocabulary.End), Is.True, $"{schema.ToJsonString(s_plain)}\n{text}");
    }

    [TestCaseSource(nameof(Tokenizers))]
    public void Tokenizers_write_what_satisfies_the_schema(string name)
    {
        var tokenizer = Load(name);
        var vocabulary = TokenVocabulary.Of(tokenizer, tokenizer.VocabularySize);
        var end = tokenizer.EosToken ?? throw new InvalidOperationException("no end token");
        for (var seed = 0; seed < 6; seed++)
        {
            var random = new Random(seed);
            var schemas = new RandomSchemas(random);
            var schema = new JsonObject { ["type"] = "object", ["properties"] = new JsonObject { ["one"] = schemas.Schema(2), ["two"] = new JsonObject { ["type"] = "string" } }, ["required"] = new JsonArray("one", "two"), ["additionalProperties"] = false };
            var grammar = JsonGrammar.Of(schema);
            var text = Walk.Random(grammar, vocabulary, t => tokenizer.BytesOf(t)!, end, random, escapes: false);
            using (var parsed = JsonDocument.Parse(text))
            {
                Assert.That(parsed.RootElement.GetProperty("two").ValueKind, Is.EqualTo(JsonValueKind.String));
            }

            var written = schemas.Value(schema)!.ToJsonString(s_plain);
            if (IsValid(schema, written))
            {
                Assert.That(Walk.Accepts(grammar, vocabulary, tokenizer.Encode(written, addSpecialTokens: false), end), Is.True, written);
            }
        }
    }

    [TestCaseSource(nameof(Tokenizers))]
    public void Special_tokens_are_no_part_of_a_string(string name)
    {
        var tokenizer = Load(name);
        var constraint = new GrammarConstraint(JsonGrammar.Of(Parse("""{"type":"string"}""")), TokenVocabulary.Of(tokenizer, tokenizer.VocabularySize), [tokenizer.EosToken!.Value]);
        constraint.Accept(tokenizer.TokenToId("\"")!.Value);
        var allowed = Walk.Allowed(constraint, tokenizer.VocabularySize);
        Assert.That(allowed.Where(tokenizer.IsSpecial), Is.Empty);
        Assert.That(allowed, Has.Count.GreaterThan(tokenizer.VocabularySize * 8 / 10));
    }

    [Test]
    public void Any_object_parses([Range(0, 39)] int seed)
    {
        var text = Walk.Random(JsonGrammar.Object(), SmallVocabulary.Vocabulary, SmallVocabulary.BytesOf, SmallVocabulary.End, new Random(seed));
        using var parsed = JsonDocument.Parse(text);
        Assert.That(parsed.RootElement.ValueKind, Is.EqualTo(JsonValueKind.Object), text);
        foreach (var member in parsed.RootElement.EnumerateObject())
        {
            // A name with half a surrogate pair would throw.
            Assert.That(member.Name, Is.Not.Null);
        }
    }

    [TestCase("""{"minLength":2,"maxLength":2}""", "\"é漢\"", true)]
    [TestCase("""{"minLength":2,"maxLength":2}""", "\"😀a\"", true)]
    [TestCase("""{"minLength":2,"maxLength":2}""", "\"\\ud83d\\ude00\\n\"", true)]
    [TestCase("""{"minLength":2,"maxLength":2}""", "\"\\u00E9x\"", true)]
    [TestCase("""{"minLength":2,"maxLength":2}""", "\"\\ud83d\"", false)]
    [TestCase("""{"minLength":2,"maxLength":2}""", "\"\\ud83dx\"", false)]
    [TestCase("""{"minLength":2,"maxLength":2}""", "\"😀\"", false)]
    [TestCase("""{"type":"string","format":"date"}""", "\"2024-02-29\"", true)]
    [TestCase("""{"type":"string","format":"date"}""", "\"2023-02-29\"", false)]
    [TestCase("""{"type":"string","format":"date"}""", "\"1900-02-29\"", false)]
    [TestCase("""{"type":"string","format":"date"}""", "\"2000-02-29\"", true)]
    [TestCase("""{"type":"string","format":"date"}""", "\"2023-04-31\"", false)]
    [TestCase("""{"type":"string","format":"time"}""", "\"23:59:00+02:00\"", true)]
    [TestCase("""{"type":"string","format":"time"}""", "\"24:00:00Z\"", false)]
    [TestCase("""{"type":"string","format":"date-time"}""", "\"2024-05-06T07:08:09.5Z\"", true)]
    [TestCase("""{"type":"string","format":"uuid"}""", "\"123e4567-e89b-12d3-a456-426614174000\"", true)]
    [TestCase("""{"type":"string","format":"email"}""", "\"a.b+c@example.org\"", true)]
    [TestCase("""{"type":"string","format":"email"}""", "\"a@b@c.de\"", false)]
    [TestCase("""{"type":"string","format":"ipv4"}""", "\"255.0.10.249\"", true)]
    [TestCase("""{"type":"string","format":"ipv4"}""", "\"256.0.0.1\"", false)]
    [TestCase("""{"type":"string","format":"hostname"}""", "\"a-b.example.org\"", true)]
    [TestCase("""{"type":"string","format":"duration"}""", "\"P1DT2H\"", true)]
    [TestCase("""{"type":"string","format":"duration"}""", "\"P\"", false)]
    [TestCase("""{"type":"string","pattern":"^a","maxLength":3}""", "\"abc\"", true)]
    [TestCase("""{"type":"string","pattern":"^a","maxLength":3}""", "\"abcd\"", false)]
    [TestCase("""{"type":"integer","minimum":-5,"exclusiveMaximum":12}""", "11", true)]
    [TestCase("""{"type":"integer","minimum":-5,"exclusiveMaximum":12}""", "12", false)]
    [TestCase("""{"type":"integer","minimum":-5,"exclusiveMaximum":12}""", "-5", true)]
    [TestCase("""{"type":"integer","minimum":-5,"exclusiveMaximum":12}""", "-6", false)]
    [TestCase("""{"type":"integer","minimum":0.5}""", "0", false)]
    [TestCase("""{"type":"integer","minimum":0.5}""", "1", true)]
    [TestCase("""{"type":"integer"}""", "01", false)]
    [TestCase("""{"type":"string","nullable":true}""", "null", true)]
    [TestCase("""{"enum":["a",1],"type":"string"}""", "1", false)]
    [TestCase("""{"type":"object"}""", """{"x":[1,{"y":null}]}""", true)]
    [TestCase("""{"type":"object","properties":{"x":{"type":"integer"}}}""", "{}", true)]
    [TestCase("""{"type":"object","properties":{"x":{"type":"integer"}},"additionalProperties":{"type":"boolean"}}""", """{"x":1,"xy":true}""", true)]
    [TestCase("""{"type":"object","properties":{"x":{"type":"integer"}},"additionalProperties":{"type":"boolean"}}""", """{"x":true}""", false)]
    [TestCase("""{"type":"object","minProperties":1,"maxProperties":2,"additionalProperties":{"type":"integer"}}""", """{"a":1,"b":2}""", true)]
    [TestCase("""{"type":"object","minProperties":1,"maxProperties":2,"additionalProperties":{"type":"integer"}}""", "{}", false)]
    [TestCase("""{"type":"object","required":["k"]}""", """{"k":[1]}""", true)]
    [TestCase("""{"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false}""", """[1,"a"]""", true)]
    [TestCase("""{"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":false}""", """[1,"a",2]""", false)]
    [TestCase("""{"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"boolean"},"minItems":2,"maxItems":3}""", "[1,true,false]", true)]
    [TestCase("""{"type":"array","prefixItems":[{"type":"integer"}],"items":{"type":"boolean"},"minItems":2,"maxItems":3}""", "[1]", false)]
    [TestCase("""{"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"string"}}}],"type":"object"}""", """{"a":1,"b":"x"}""", true)]
    [TestCase("""{"allOf":[{"properties":{"a":{"type":"integer"}},"required":["a"]},{"properties":{"b":{"type":"string"}}}],"type":"object"}""", """{"b":"x"}""", false)]
    [TestCase("""{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]}""", """{"b":2}""", true)]
    [TestCase("""{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"anyOf":[{"required":["a"]},{"required":["b"]}]}""", "{}", false)]
    [TestCase("""{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}}}""", """{"v":1,"next":{"v":2,"next":null}}""", true)]
    [TestCase("""{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["v","next"]}}}""", """{"v":1,"next":{"v":2}}""", false)]
    [TestCase("""{"type":"object","properties":{"child":{"$ref":"#","description":"again"},"all":{"allOf":[{"$ref":"#"}],"required":["child"]}}}""", """{"child":{},"all":{"child":{"child":{}}}}""", true)]
    [TestCase("""{"type":"object","properties":{"all":{"$ref":"#","required":["all"]}}}""", "{}", true)]
    [TestCase("""true""", """[{"a":1.5e3}]""", true)]
    public void A_schema_accepts_what_it_describes(string schema, string text, bool accepted) => Assert.That(JsonGrammar.Of(Parse(schema)).Matches(text), Is.EqualTo(accepted));

    [TestCase("""{"type":"nonsense"}""", "nonsense")]
    [TestCase("""{"type":"object","properties":{"tags":{"type":"array","uniqueItems":true}}}""", "uniqueItems")]
    [TestCase("""{"not":{"type":"string"}}""", "not")]
    [TestCase("""{"if":{},"then":{}}""", "if")]
    [TestCase("""{"type":"object","patternProperties":{"^x":{}}}""", "patternProperties")]
    [TestCase("""{"type":"object","dependentRequired":{}}""", "dependentRequired")]
    [TestCase("""{"type":"number","minimum":0}""", "minimum")]
    [TestCase("""{"type":"integer","multipleOf":3}""", "multipleOf")]
    [TestCase("""{"type":"string","format":"iri"}""", "iri")]
    [TestCase("""{"type":"string","pattern":"(?=a)b"}""", "looks ahead")]
    [TestCase("""{"type":"string","pattern":"(a)\\1"}""", "\\1")]
    [TestCase("""{"type":"string","pattern":"\\bx"}""", "\\b")]
    [TestCase("""{"type":"string","pattern":"(a"}""", "not closed")]
    [TestCase("""{"$ref":"https://example.org/x.json"}""", "https://example.org/x.json")]
    [TestCase("""{"$ref":"#/$defs/absent"}""", "not there")]
    [TestCase("""{"$ref":"#"}""", "itself")]
    [TestCase("""{"type":"object","properties":{"a":false},"required":["a"]}""", "no text")]
    [TestCase("""{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"n":{"$ref":"#/$defs/n"}},"required":["n"]}}}""", "no text")]
    [TestCase("""{"enum":["a"],"minLength":1}""", "minLength")]
    [TestCase("""{"enum":[]}""", "no text")]
    [TestCase("""{"type":"integer","minimum":3,"maximum":2}""", "no text")]
    [TestCase("""{"type":"string","minLength":-1}""", "minLength")]
    [TestCase("""{"properties":[]}""", "properties")]
    [TestCase("""[]""", "neither an object")]
    [TestCase("""{"type":"array","items":{"type":"array","items":{"type":"string","maxLength":3000},"minItems":20000,"maxItems":500000}}""", "too large")]
    public void What_cannot_be_enforced_is_refused_by_name(string schema, string named) =>
        Assert.That(() => JsonGrammar.Of(Parse(schema)), Throws.TypeOf<GrammarException>().With.Message.Contains(named));

    [TestCase("""{"enum":[]}""")]
    [TestCase("""false""")]
    [TestCase("""{"allOf":[{"type":"string"},{"type":"integer"}]}""")]
    [TestCase("""{"type":"integer","minimum":5,"maximum":3}""")]
    [TestCase("""{"type":"array","minItems":3,"maxItems":2}""")]
    [TestCase("""{"type":"string","minLength":3,"maxLength":2}""")]
    [TestCase("""{"type":"object","properties":{"a":false},"required":["a"]}""")]
    [TestCase("""{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}""")]
    [TestCase("""{"const":5,"type":"string"}""")]
    public void A_schema_that_no_value_satisfies_is_refused(string schema) =>
        Assert.That(() => JsonGrammar.Of(Parse(schema)), Throws.TypeOf<GrammarException>().With.Message.Contains("no text can satisfy"));

    // Each definition is twice the one before: read anew for each reference, they would be a billion parts.
    [TestCase("allOf")]
    [TestCase("properties")]
    public void Definitions_that_refer_to_each_other_are_read_once(string kind)
    {
        var definitions = new JsonObject { ["a0"] = Parse("""{"type":"object","properties":{"x":{"const":1}},"required":["x"],"additionalProperties":false}""") };
        for (var i = 1; i <= 30; i++)
        {
            var before = $$"""{"$ref":"#/$defs/a{{i - 1}}"}""";
            definitions[$"a{i}"] = Parse(kind == "allOf" ? $$"""{"allOf":[{{before}},{{before}}]}""" : $$$"""{"type":"object","properties":{"l":{{{before}}},"r":{{{before}}}}}""");
        }

        var grammar = JsonGrammar.Of(new JsonObject { ["$defs"] = definitions, ["$ref"] = "#/$defs/a30" });
        Assert.That(grammar.Matches(kind == "allOf" ? """{"x":1}""" : """{"l":{"r":{}}}"""), Is.True);
        Assert.That(grammar.Matches("""{"x":2}"""), Is.False);
    }

    [Test]
    public void More_parts_than_can_be_enforced_are_refused()
    {
        var many = new JsonObject { ["allOf"] = new JsonArray([.. Enumerable.Range(0, 21_000).Select(static i => (JsonNode)new JsonObject { ["minProperties"] = 1, ["title"] = $"{i}" })]) };
        Assert.That(() => JsonGrammar.Of(many), Throws.TypeOf<GrammarException>().With.Message.Contains("20000 parts"));
    }

    [Test]
    public void Descriptions_change_nothing() => Assert.That(
        JsonGrammar.Of(Parse("""{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"x","title":"t","description":"d","default":1,"examples":[2],"deprecated":true,"x-y":1,"type":"integer"}""")).Matches("7"), Is.True);

    [Test]
    public void White_space_is_bounded()
    {
        var grammar = JsonGrammar.Object();
        Assert.Multiple(() =>
        {
            Assert.That(grammar.Matches("{\n    \"a\": 1\n}"), Is.True);
            Assert.That(grammar.Matches("{" + new string(' ', 2) + "}"), Is.False);
            Assert.That(grammar.Matches("{\n\n}"), Is.False);
            Assert.That(grammar.Matches("{\n" + new string(' ', 100) + "}"), Is.False);
            Assert.That(grammar.Matches("{} "), Is.False);
        });
    }

    [Test]
    public void Nesting_without_a_schema_is_bounded()
    {
        static string Nested(int depth) => string.Concat(Enumerable.Repeat("{\"a\":", depth - 1)) + "{}" + new string('}', depth - 1);
        Assert.That(JsonGrammar.Object().Matches(Nested(20)), Is.True);
        Assert.That(JsonGrammar.Object().Matches(Nested(100)), Is.False);
    }

    [Test]
    public void A_complete_value_leaves_the_end_alone()
    {
        var constraint = new GrammarConstraint(JsonGrammar.Of(Parse("""{"const":"x"}""")), SmallVocabulary.Vocabulary, [SmallVocabulary.End]);
        foreach (var token in SmallVocabulary.Split("\"x\"", new Random(0)))
        {
            Assert.That(constraint.IsComplete, Is.False);
            Assert.That(Walk.Allowed(constraint, SmallVocabulary.Size), Does.Not.Contain(SmallVocabulary.End));
            constraint.Accept(token);
        }

        Assert.That((constraint.IsComplete, constraint.IsEnded), Is.EqualTo((true, true)));
        Assert.That(Walk.Allowed(constraint, SmallVocabulary.Size), Is.EqualTo(new[] { SmallVocabulary.End }));
    }

    [Test]
    public void A_token_that_was_not_allowed_is_an_error()
    {
        var constraint = new GrammarConstraint(JsonGrammar.Object(), SmallVocabulary.Vocabulary, [SmallVocabulary.End]);
        Assert.That(() => constraint.Accept(SmallVocabulary.Split("x", new Random(0)).First()), Throws.InvalidOperationException);
    }

    private static Tokenizer Load(string name)
    {
        var folder = SharedFiles.Require("fixtures", "tokenizers", name);
        return Tokenizer.Load(folder);
    }

    private static JsonNode? Parse(string text) => JsonNode.Parse(text);

    private static bool IsValid(JsonNode schema, string text)
    {
        using var parsed = JsonDocument.Parse(text);
        return JsonSchema.FromText(schema.ToJsonString()).Evaluate(parsed.RootElement).IsValid;
    }
}
