using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Answering.ToolCalls;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Answering;

/// <summary>What models write, as it comes, and what is made of it.</summary>
public sealed class AnswerParserTests
{
    private const string Thinks = "{{ '<think>' }} {{ '</think>' }} tool";

    private static readonly JsonNode s_tools = JsonNode.Parse("""
        [{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"s":{"type":"string"},"n":{"type":"integer"},"m":{"type":["string","null"]},"e":{"enum":["a","b"]},"o":{"type":"object"}}}}},
        {"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}]
        """)!;

    [TestCase("hermes", "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"s\": \"</tool_call>\"}}\n</tool_call>", "", "f{\"s\":\"</tool_call>\"}")]
    [TestCase("hermes", "I look.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":\"{\\\"s\\\":1}\"}</tool_call>\n", "I look.", "f{};g{\"s\":1}")]
    [TestCase("hermes", "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n\nThat was it.", "That was it.", "f{}")]
    [TestCase("hermes", "<tool_call>{\"name\":\"f\",\"arguments\":{\"s\":1}}", "", "f{\"s\":1}", TestName = "The last closing mark is missing")]
    [TestCase("hermes", "<tool_call>{\"name\":\"f\"}</tool_call>", "", "f{}", TestName = "A call without arguments")]
    [TestCase("hermes", "<tool_call>{\"name\":\"f\",\"argum", "<tool_call>{\"name\":\"f\",\"argum", "", TestName = "A call that is cut off is content")]
    [TestCase("hermes", "<tool_call>{\"nam\":\"f\"}</tool_call> and <tool_call>{\"name\":\"g\"}</tool_call>", "<tool_call>{\"nam\":\"f\"}</tool_call> and", "g{}", TestName = "A call without a name is content")]
    [TestCase("hermes", "<tool_call>{\"name\":\"f\",}{</tool_call>", "<tool_call>{\"name\":\"f\",}{</tool_call>", "", TestName = "A malformed call is content")]
    [TestCase("hermes", "a <tool b\n", "a <tool b\n", "", TestName = "The beginning of a mark is content")]
    [TestCase("hermes", "  a\n\nb  \n", "  a\n\nb  \n", "", TestName = "White space of content stays")]
    [TestCase("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=s>\n12\n</parameter>\n<parameter=n>\n12\n</parameter>\n</function>\n</tool_call>", "", "f{\"s\":\"12\",\"n\":12}")]
    [TestCase("qwen3-coder", "ok\n<function=f>\n<parameter=s>\na\n\nb </parameter> c\n</parameter>\n</function>\n</tool_call>", "ok", "f{\"s\":\"a\\n\\nb </parameter> c\"}", TestName = "The outer mark is left out, and a value has a closing mark in it")]
    [TestCase("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=m>\nnull\n</parameter>\n<parameter=e>\na\n</parameter>\n<parameter=o>\n{\"x\": [1]}\n</parameter>\n<parameter=u>\nTrue\n</parameter>\n</function>\n</tool_call>", "", "f{\"m\":null,\"e\":\"a\",\"o\":{\"x\":[1]},\"u\":true}")]
    [TestCase("qwen3-coder", "<tool_call>\n<function=f>\n<parameter=n>\nmany\n</parameter>\n</function>\n</tool_call>", "", "f{\"n\":\"many\"}", TestName = "A value that is none of its type stays text")]
    [TestCase("seed-oss", "<seed:tool_call>\n<function=f>\n<parameter=s>x</parameter>\n</function>\n</seed:tool_call>", "", "f{\"s\":\"x\"}")]
    [TestCase("llama-3", "{\"name\": \"f\", \"parameters\": {\"s\": \"x\"}}", "", "f{\"s\":\"x\"}")]
    [TestCase("llama-3", "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"s\": \"x\"}}; {\"name\": \"g\", \"parameters\": {}}", "", "f{\"s\":\"x\"};g{}")]
    [TestCase("llama-3", "{\"answer\": 1}", "{\"answer\": 1}", "", TestName = "JSON that is no call is content")]
    [TestCase("llama-3", "So {\"name\": \"f\", \"parameters\": {}}", "So {\"name\": \"f\", \"parameters\": {}}", "", TestName = "JSON in the middle of an answer is content")]
    [TestCase("mistral-list", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"s\": \"]\"}, \"id\": \"abcdefghi\"}, {\"name\": \"g\", \"arguments\": {}}]", "", "f{\"s\":\"]\"};g{}")]
    [TestCase("mistral", "Now.[TOOL_CALLS]f[ARGS]{\"s\": \"x\"}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}", "Now.", "f{\"s\":\"x\"};g{}")]
    [TestCase("mistral", "[TOOL_CALLS]f[ARGS]{\"s\": ", "[TOOL_CALLS]f[ARGS]{\"s\": ", "")]
    [TestCase("deepseek-v3", "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"s\":\"x\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>", "", "f{\"s\":\"x\"};g{}")]
    [TestCase("deepseek-v3.1", "Hm.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"s\":\"x\"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>", "Hm.", "f{\"s\":\"x\"};g{}")]
    [TestCase("deepseek-v3.2", "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"s\" string=\"true\">1</｜DSML｜parameter>\n<｜DSML｜parameter name=\"q\" string=\"false\">[1]</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>", "", "f{\"s\":\"1\",\"q\":[1]}")]
    [TestCase("minimax-m2", "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter name=\"s\">1</parameter>\n<parameter name=\"n\">1</parameter>\n</invoke>\n</minimax:tool_call>", "", "f{\"s\":\"1\",\"n\":1}")]
    [TestCase("minimax-m1", "<tool_calls>\n{\"name\": \"f\", \"arguments\": {}}\n{\"name\": \"g\", \"arguments\": {}}\n</tool_calls>", "", "f{};g{}")]
    [TestCase("glm", "\n<tool_call>f\n<arg_key>s</arg_key>\n<arg_value>1</arg_value>\n<arg_key>n</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", "", "f{\"s\":\"1\",\"n\":1}")]
    [TestCase("glm", "<tool_call>g</tool_call>", "", "g{}")]
    [TestCase("granite", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"s\": \"x\"}}]", "", "f{\"s\":\"x\"}")]
    [TestCase("command-r7b", "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"f\", \"parameters\": {\"s\": \"x\"}}\n]<|END_ACTION|>", "", "f{\"s\":\"x\"}")]
    [TestCase("kimi-k2", "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"s\":\"x\"}<|tool_call_end|><|tool_calls_section_end|>", "", "f{\"s\":\"x\"}")]
    [TestCase("functionary", "<function=f>{\"s\": \"x\"}</function><function=g>{}</function>", "", "f{\"s\":\"x\"};g{}")]
    [TestCase("nemotron", "<TOOLCALL>[{\"name\": \"f\", \"arguments\": {}}]</TOOLCALL>", "", "f{}")]
    [TestCase("firefunction", " functools[{\"name\": \"f\", \"arguments\": {}}]", "", "f{}")]
    public void Calls_are_read_in_pieces_of_any_size(string format, string written, string content, string calls)
    {
        var parsed = Parsed.Same(ToolCallFormats.Named(format)!, ReasoningFormat.Of(""), "", s_tools, written);
        Assert.Multiple(() =>
        {
            Assert.That(parsed.Content, Is.EqualTo(content));
            Assert.That(string.Join(';', parsed.Calls.Select(static c => c.Name + c.Arguments?.ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))), Is.EqualTo(calls));
        });
    }

    [TestCase("{'a': [True, None, 1.5], \"b\": 'it\\'s'}", """{"a":[true,null,1.5],"b":"it's"}""")]
    [TestCase("[1, 2,]", "[1,2]")]
    [TestCase("{'a': }", null)]
    [TestCase("{'a'", null)]
    [TestCase("[True", null)]
    [TestCase("word", null)]
    public void Values_are_read_as_python_writes_them(string text, string? json) => Assert.That(
        PythonLiteral.TryParse(text, out var value) ? value?.ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }) : null,
        Is.EqualTo(json));

    [TestCase("<|assistant|><think>\n", "why <tool_call>\n</think>\n\nok<tool_call>{\"name\":\"g\"}</tool_call>", "why <tool_call>\n", "ok")]
    [TestCase("<|assistant|>", "<think>why</think><tool_call>{\"name\":\"g\"}</tool_call>", "why", "")]
    public void Reasoning_is_apart_and_has_no_calls(string prompt, string written, string reasoning, string content)
    {
        var parsed = Parsed.Same(ToolCallFormats.Named("hermes"), ReasoningFormat.Of(Thinks), prompt, s_tools, written);
        Assert.That((parsed.Reasoning, parsed.Content, parsed.Calls.Count), Is.EqualTo((reasoning, content, 1)));
    }

    [TestCase("<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"s\":\"x\"}<|call|>", "why", "", "f")]
    [TestCase("<|channel|>analysis<|message|>why<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{\"s\":\"x\"}<|call|>", "why", "", "f")]
    [TestCase("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.f json<|message|>{\"s\":\"x\"}", "", "I look.", "f")]
    [TestCase("<|channel|>commentary to=functions.f json<|message|>{\"s\":", "", "{\"s\":", "")]
    [TestCase("<|channel|>final<|message|>yes<|return|>", "", "yes", "")]
    public void Channels_are_reasoning_calls_and_content(string written, string reasoning, string content, string call)
    {
        var parsed = Parsed.Same(ToolCallFormats.Named("harmony"), ReasoningFormat.Of("<|channel|>analysis<|return|> to=functions. <|message|>"), "<|start|>assistant", s_tools, written);
        Assert.That((parsed.Reasoning, parsed.Content, string.Join(';', parsed.Calls.Select(static c => c.Name))), Is.EqualTo((reasoning, content, call)));
    }

    [Test]
    public void Text_that_may_begin_a_mark_is_held_back_and_other_text_is_not()
    {
        var parser = new AnswerParser(ReasoningFormat.Of(""), ToolCallFormats.Named("hermes"), "", s_tools);
        Assert.Multiple(() =>
        {
            Assert.That(parser.Add("Well, "), Is.EqualTo(new[] { new ContentPiece("Well,") }));
            Assert.That(parser.Add("a <to"), Is.EqualTo(new[] { new ContentPiece(" a") }));
            Assert.That(parser.Add("p>"), Is.EqualTo(new[] { new ContentPiece(" <top>") }));
            Assert.That(parser.Add(" <tool_call>{\"name\":"), Is.Empty);
            Assert.That(parser.Add("\"g\"}</tool_call>").Single(), Is.TypeOf<ToolCallPiece>());
            Assert.That(parser.Finish(), Is.Empty);
        });
    }

    [Test]
    public void Without_a_format_everything_is_content_at_once()
    {
        var parser = new AnswerParser(ReasoningFormat.Of(""), null, "", null);
        Assert.That(parser.Add("a <tool_call>{ "), Is.EqualTo(new[] { new ContentPiece("a <tool_call>{ ") }));
        Assert.That(parser.Finish(), Is.Empty);
    }

    [Test]
    public void Special_tokens_of_the_format_and_of_reasoning_are_read()
    {
        var parser = new AnswerParser(ReasoningFormat.Of(Thinks), ToolCallFormats.Named("mistral"), "", null);
        Assert.That(new[] { "[TOOL_CALLS]", "[ARGS]", "<think>", "<|im_end|>" }.Select(parser.Reads), Is.EqualTo(new[] { true, true, true, false }));
    }

    [Test]
    public void Identifiers_are_the_models_own_where_they_can_be_used()
    {
        Assert.That(Parsed.Of(ToolCallFormats.Named("mistral-list"), ReasoningFormat.Of(""), "", null, "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{},\"id\":\"abcdefghi\"}]", 5).Ids, Is.EqualTo(new[] { "abcdefghi" }));
        Assert.That(Parsed.Of(ToolCallFormats.Named("mistral"), ReasoningFormat.Of(""), "", null, "[TOOL_CALLS]f[ARGS]{}", 5).Ids.Single(), Does.Match("^[a-zA-Z0-9]{9}$"));
        Assert.That(Parsed.Of(ToolCallFormats.Named("kimi-k2"), ReasoningFormat.Of(""), "", null, "<|tool_call_begin|>functions.f:3<|tool_call_argument_begin|>{}<|tool_call_end|>", 5).Ids, Is.EqualTo(new[] { "functions.f:3" }));
    }
}
