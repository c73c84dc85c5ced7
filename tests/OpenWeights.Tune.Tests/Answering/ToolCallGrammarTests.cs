using System.Text;
using System.Text.Json.Nodes;
using Json.Schema;
using NUnit.Framework;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Answering.ToolCalls;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding.Grammars;
using OpenWeights.Tune.Tests.Decoding.Grammars;

namespace OpenWeights.Tune.Tests.Answering;

/// <summary>Answers that have to be calls are calls, whatever is sampled.</summary>
public sealed class ToolCallGrammarTests
{
    private static readonly JsonNode s_tools = JsonNode.Parse("""
        [{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":14},
        "unit":{"enum":["c","f"]},"more":{"$ref":"#/$defs/more"}},"required":["city","days"],"additionalProperties":false,"$defs":{"more":{"type":"array","items":{"type":"boolean"},"maxItems":3}}}}},
        {"type":"function","function":{"name":"stop","parameters":{"type":"object","properties":{},"additionalProperties":false}}}]
        """)!;

    private static readonly string[] s_formats =
    [
        "hermes", "qwen3-coder", "seed-oss", "llama-3", "mistral", "mistral-list", "deepseek-v3", "deepseek-v3.1", "deepseek-v3.2", "minimax-m2", "minimax-m1", "glm", "granite", "command-r7b", "kimi-k2", "functionary", "nemotron", "apriel",
        "firefunction",
    ];

    [Test]
    public void A_required_call_is_a_call_of_a_tool_with_its_arguments([ValueSource(nameof(s_formats))] string name, [Values(0, 1, 2, 3)] int seed)
    {
        var format = ToolCallFormats.Named(name)!;
        var written = Sample(ToolCallGrammar.Of(format, s_tools, null, inParallel: true), format, seed);
        Check(Parsed.Of(format, ReasoningFormat.Of(""), "", s_tools, written, 7), written, name);
    }

    [Test]
    public void A_call_of_gpt_oss_comes_after_its_analysis([Values(0, 1, 2, 3)] int seed)
    {
        var (format, reasoning) = (ToolCallFormats.Named("harmony")!, ReasoningFormat.Of("<|channel|>analysis"));
        var grammar = AnswerGrammar.OfCalls(ToolCallGrammar.Of(format, s_tools, "get_weather", inParallel: false), reasoning, "<|start|>assistant");
        var written = Sample(grammar, format, seed, "<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|constrain|>");
        var parsed = Parsed.Of(format, reasoning, "<|start|>assistant", s_tools, written.Replace("<|constrain|>", "", StringComparison.Ordinal), 7);
        Check(parsed, written, "harmony");
        Assert.That(parsed.Calls.Single().Name, Is.EqualTo("get_weather"));
    }

    [Test]
    public void A_named_tool_alone_is_called([Values(0, 1, 2)] int seed)
    {
        var format = ToolCallFormats.Named("hermes")!;
        var written = Sample(ToolCallGrammar.Of(format, s_tools, "stop", inParallel: false), format, seed);
        Assert.That(Parsed.Of(format, ReasoningFormat.Of(""), "", s_tools, written, 7).Calls.Select(static c => c.Name), Is.EqualTo(new[] { "stop" }));
    }

    [Test]
    public void A_tool_that_is_not_there_is_refused() => Assert.Multiple(() =>
    {
        Assert.That(() => ToolCallGrammar.Of(ToolCallFormats.Named("hermes")!, s_tools, "other", false), Throws.TypeOf<GrammarException>().With.Message.Contains("\"other\""));
        Assert.That(() => ToolCallGrammar.Of(ToolCallFormats.Named("hermes")!, null, null, false), Throws.TypeOf<GrammarException>());
    });

    [Test]
    public void Only_a_strict_tool_has_to_have_a_schema_that_can_be_enforced()
    {
        static JsonNode Tools(bool strict) => JsonNode.Parse("""[{"function":{"name":"f","strict":false,"parameters":{"type":"object","properties":{"u":{"type":"string","format":"uri"}}}}}]""".Replace("false", strict ? "true" : "false", StringComparison.Ordinal))!;
        var format = ToolCallFormats.Named("hermes")!;
        Assert.That(ToolCallGrammar.Of(format, Tools(false), null, false).Matches("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"u\": \"x:y\"}}\n</tool_call>"), Is.True);
        Assert.That(() => ToolCallGrammar.Of(format, Tools(true), null, false), Throws.TypeOf<GrammarException>().With.Message.Contains("uri"));
    }

    [TestCase("<think>\n", "why {}</think>\n\n{\"a\":1}", true)]
    [TestCase("<think>\n", "{\"a\":1}", false)]
    [TestCase("", "<think>why</think>{\"a\":1}", true)]
    [TestCase("", "{\"a\":1}", true)]
    [TestCase("", "why {\"a\":1}", false)]
    [TestCase("<think>\n\n</think>\n\n", "{\"a\":1}", true)]
    [TestCase("<think>\n\n</think>\n\n", "<think>x</think>{\"a\":1}", false)]
    public void A_schema_counts_after_the_reasoning(string prompt, string text, bool accepted) =>
        Assert.That(AnswerGrammar.OfContent(JsonGrammar.Object(), ReasoningFormat.Of("<think> </think>"), prompt).Matches(text), Is.EqualTo(accepted));

    [TestCase("<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>{\"a\":1}", true)]
    [TestCase("<|channel|>final<|message|>{\"a\":1}", true)]
    [TestCase("{\"a\":1}", false)]
    public void A_schema_counts_for_the_final_channel(string text, bool accepted) =>
        Assert.That(AnswerGrammar.OfContent(JsonGrammar.Object(), ReasoningFormat.Of("<|channel|>analysis"), "<|start|>assistant").Matches(text), Is.EqualTo(accepted));

    private static void Check(Parsed parsed, string written, string name)
    {
        Assert.That(parsed.Calls, Is.Not.Empty, $"{name}: {written}");
        Assert.That(parsed.Content, Is.Empty, $"{name}: {written}");
        foreach (var (tool, arguments) in parsed.Calls)
        {
            var schema = s_tools.AsArray().Select(static t => t!["function"]!).Single(f => f["name"]!.ToString() == tool)["parameters"]!;
            using var document = System.Text.Json.JsonDocument.Parse(arguments!.ToJsonString());
            Assert.That(JsonSchema.FromText(schema.ToJsonString()).Evaluate(document.RootElement).IsValid, Is.True, $"{name}: {written}");
        }
    }

    // Tokens of letters, of JSON and of the format's marks, each also as a special token.
    private static string Sample(Grammar grammar, IToolCallFormat format, int seed, params string[] special)
    {
        var marks = format.Marks.Where(static m => m.Length > 1).Distinct().ToList();
        byte[][] tokens =
        [
            [],
            .. Enumerable.Range(32, 95).Append('\n').Select(static c => new[] { (byte)c }),
            .. new[] { "{\"", "\": ", "\"}", "ity", "days", "true" }.Select(Encoding.UTF8.GetBytes),
            .. Enumerable.Range(0, 256).Where(static b => b > 126).Select(static b => new[] { (byte)b }).Where(t => marks.Exists(m => Encoding.UTF8.GetBytes(m).Contains(t[0]))),
            .. marks.Select(static m => Encoding.UTF8.GetBytes(m)),
            .. marks.Concat(special).Select(static m => (byte[])[0xFF, .. Encoding.UTF8.GetBytes(m), 0xFE]),
        ];
        var (vocabulary, random) = (TokenVocabulary.Of(tokens), new Random(seed));
        var constraint = new GrammarConstraint(grammar, vocabulary, [0]);
        var bytes = new List<byte>();
        for (var step = 0; step < 4000; step++)
        {
            var allowed = Walk.Allowed(constraint, tokens.Length);
            var closing = allowed.Where(t => t == 0 || tokens[t].Length > 4 || tokens[t] is [(byte)'"' or (byte)'}' or (byte)']' or (byte)'>']).ToList();
            var token = closing.Count > 0 && random.NextDouble() < (step < 40 ? 0.3 : 0.9) ? closing[random.Next(closing.Count)] : allowed[random.Next(allowed.Count)];
            constraint.Accept(token);
            if (token == 0)
            {
                return Encoding.UTF8.GetString([.. bytes]);
            }

            bytes.AddRange(tokens[token].Where(static b => b < 0xFE));
        }

        Assert.Fail($"an answer does not end: {Encoding.UTF8.GetString([.. bytes])}");
        return "";
    }
}
