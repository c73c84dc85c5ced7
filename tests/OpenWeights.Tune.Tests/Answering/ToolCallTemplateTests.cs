using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Answering.ToolCalls;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Answering;

/// <summary>Calls that chat templates of known models write are read back as the same calls.</summary>
public sealed class ToolCallTemplateTests
{
    private const string Question = "What is the weather in Zürich?";
    private const string Before = "Let me look.";
    private const string Thought = "First the weather.";

    private static readonly JsonNode s_tools = JsonNode.Parse("""
        [{"type":"function","function":{"name":"get_weather","description":"The weather of a place","parameters":{"type":"object","properties":{
        "city":{"type":"string","description":"The city"},"days":{"type":"integer","description":"How many"},"code":{"type":"string","description":"A code"},
        "options":{"type":"object","description":"More","properties":{"metric":{"type":"boolean"},"hours":{"type":"array","items":{"type":"integer"}}}}},"required":["city"]}}},
        {"type":"function","function":{"name":"ask","description":"Asks","parameters":{"type":"object","properties":{"text":{"type":"string","description":"The text"}},"required":["text"]}}}]
        """)!;

    private static readonly (string Name, string Arguments)[] s_calls =
    [
        ("get_weather", """{"city":"Zürich","days":3,"code":"12","options":{"metric":true,"hours":[1,2]}}"""),
        ("ask", """{"text":"Is \"it\" {so}?\nYes <b> & 'no'"}"""),
    ];

    private static readonly string[] s_ends =
    [
        "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "</s>", "<|end_of_text|>", "<|endoftext|>", "[e~[", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<|user|>", "<|observation|>",
        "<end_of_sentence>", "<seed:eos>", "<|role_end|>", "</assistant>", "<SPECIAL_12>", "\n<sep>", "<|end|>\n<|begin|>",
    ];

    private static readonly Dictionary<string, string> s_formats = new()
    {
        ["llama.cpp-2026/Apriel-1.6-15b-Thinker-fixed.jinja"] = "apriel",
        ["llama.cpp-2026/Bielik-11B-v3.0-Instruct.jinja"] = "hermes",
        ["llama.cpp-2026/ByteDance-Seed-OSS.jinja"] = "seed-oss",
        ["llama.cpp-2026/Cohere2MoE.jinja"] = "command-r7b",
        ["llama.cpp-2026/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja"] = "command-r7b",
        ["llama.cpp-2026/GLM-4.6.jinja"] = "glm",
        ["llama.cpp-2026/GLM-4.7-Flash.jinja"] = "glm",
        ["llama.cpp-2026/MiMo-VL.jinja"] = "hermes",
        ["llama.cpp-2026/MiniMax-M1.jinja"] = "minimax-m1",
        ["llama.cpp-2026/MiniMax-M2.jinja"] = "minimax-m2",
        ["llama.cpp-2026/Mistral-Small-3.2-24B-Instruct-2506.jinja"] = "mistral",
        ["llama.cpp-2026/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.jinja"] = "qwen3-coder",
        ["llama.cpp-2026/NVIDIA-Nemotron-Nano-v2.jinja"] = "nemotron",
        ["llama.cpp-2026/Qwen-QwQ-32B.jinja"] = "hermes",
        ["llama.cpp-2026/Qwen-Qwen3-0.6B.jinja"] = "hermes",
        ["llama.cpp-2026/Qwen3-Coder.jinja"] = "qwen3-coder",
        ["llama.cpp-2026/Qwen3.5-4B.jinja"] = "qwen3-coder",
        ["llama.cpp-2026/Reka-Edge.jinja"] = "hermes",
        ["llama.cpp-2026/Spark2.5.jinja"] = "glm",
        ["llama.cpp-2026/StepFun3.5-Flash.jinja"] = "qwen3-coder",
        ["llama.cpp-2026/deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja"] = "deepseek-v3",
        ["llama.cpp-2026/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja"] = "deepseek-v3",
        ["llama.cpp-2026/deepseek-ai-DeepSeek-V3.1.jinja"] = "deepseek-v3.1",
        ["llama.cpp-2026/deepseek-ai-DeepSeek-V3.2.jinja"] = "deepseek-v3.2",
        ["llama.cpp-2026/deepseek-ai-DeepSeek-V4.jinja"] = "deepseek-v4",
        ["llama.cpp-2026/deepseek-ai-DeepSeek-V4-Flash-0731.jinja"] = "deepseek-v4",
        ["llama.cpp-2026/fireworks-ai-llama-3-firefunction-v2.jinja"] = "firefunction",
        ["llama.cpp-2026/ibm-granite-granite-4.0.jinja"] = "hermes",
        ["llama.cpp-2026/ibm-granite-granite-4.1.jinja"] = "hermes",
        ["llama.cpp-2026/inclusionai-ling-3.0-flash.jinja"] = "glm",
        ["llama.cpp-2026/meetkai-functionary-medium-v3.1.jinja"] = "functionary",
        ["llama.cpp-2026/mistralai-Ministral-3-14B-Reasoning-2512.jinja"] = "mistral",
        ["llama.cpp-2026/moonshotai-Kimi-K2.jinja"] = "kimi-k2",
        ["llama.cpp-2026/openai-gpt-oss-120b.jinja"] = "harmony",
        ["llama.cpp-2026/poolside-Laguna-S-2.1.jinja"] = "glm",
        ["llama.cpp-2026/poolside-Laguna-XS-2.1.jinja"] = "glm",
        ["llama.cpp-2026/unsloth-mistral-Devstral-Small-2507.jinja"] = "mistral",
        ["llama.cpp/NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja"] = "hermes",
        ["llama.cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja"] = "hermes",
        ["llama.cpp/Qwen-Qwen2.5-7B-Instruct.jinja"] = "hermes",
        ["llama.cpp/meta-llama-Llama-3.1-8B-Instruct.jinja"] = "llama-3",
        ["llama.cpp/meta-llama-Llama-3.2-3B-Instruct.jinja"] = "llama-3",
        ["llama.cpp/meta-llama-Llama-3.3-70B-Instruct.jinja"] = "llama-3",
        ["llama.cpp/mistralai-Mistral-Nemo-Instruct-2407.jinja"] = "mistral-list",
        ["mistral-common/v3.jinja"] = "mistral-list",
        ["mistral-common/v7.jinja"] = "mistral-list",
        ["mistral-common/v11.jinja"] = "mistral",
        ["mistral-common/v13.jinja"] = "mistral",
    };

    // The sandbox of transformers refuses these, or they read calls in another form than OpenAI's.
    private static readonly Dictionary<string, string> s_notRendered = new()
    {
        ["llama.cpp-2026/Kimi-K2-Instruct.jinja"] = "kimi-k2",
        ["llama.cpp-2026/Kimi-K2-Thinking.jinja"] = "kimi-k2",
        ["llama.cpp-2026/llama-cpp-deepseek-r1.jinja"] = "deepseek-v3",
        ["llama.cpp-2026/ibm-granite-granite-3.3-2B-Instruct.jinja"] = "granite",
        ["other/smollm3.jinja"] = "hermes",
        ["other/gpt-oss.jinja"] = "harmony",
    };

    private static readonly string[] s_withoutCalls =
    [
        "chujiezheng/chatml.jinja", "chujiezheng/llama-2-chat.jinja", "chujiezheng/gemma-it.jinja", "chujiezheng/zephyr.jinja", "llama.cpp/google-gemma-2-2b-it.jinja", "llama.cpp/microsoft-Phi-3.5-mini-instruct.jinja",
    ];

    private static IEnumerable<string> Templates => SharedFiles.Present([.. s_formats.Keys], "fixtures", "chat-templates");

    private static IEnumerable<string> FoundTemplates => SharedFiles.Present([.. s_notRendered.Keys], "fixtures", "chat-templates");

    private static IEnumerable<string> OthersTemplates => SharedFiles.Present(s_withoutCalls, "fixtures", "chat-templates");

    [TestCaseSource(nameof(Templates))]
    public void A_rendered_call_is_read_as_the_same_call(string name) => Assert.That(Check(name, s_calls[..1], ""), Is.True, "the template writes no call");

    [TestCaseSource(nameof(Templates))]
    public void Several_calls_content_before_them_and_reasoning_are_read(string name)
    {
        // Templates refuse what their models do not write: then there is nothing to read.
        var any = false;
        foreach (var (calls, content, thought) in new[] { (2, "", ""), (1, Before, ""), (2, Before, ""), (1, "", Thought), (1, Before, Thought) })
        {
            any |= Check(name, s_calls[..calls], content, thought);
        }

        Assert.That(any, Is.True);
    }

    [TestCaseSource(nameof(FoundTemplates))]
    public void The_format_is_found_from_the_template(string name) =>
        Assert.That(ToolCallFormats.Of(File.ReadAllText(SharedFiles.Require(["fixtures", "chat-templates", .. name.Split('/')])))?.Name, Is.EqualTo(s_notRendered[name]));

    [TestCaseSource(nameof(OthersTemplates))]
    public void A_template_without_tools_has_no_format(string name) =>
        Assert.That(ToolCallFormats.Of(File.ReadAllText(SharedFiles.Require(["fixtures", "chat-templates", .. name.Split('/')]))), Is.Null);

    private static bool Check(string name, (string Name, string Arguments)[] calls, string content, string thought = "")
    {
        var template = File.ReadAllText(SharedFiles.Require(["fixtures", "chat-templates", .. name.Split('/')]));
        var format = ToolCallFormats.Of(template);
        Assert.That(format?.Name, Is.EqualTo(s_formats[name]));
        var reasoning = ReasoningFormat.Of(template);
        if (Render(template, reasoning, calls, content, thought) is not var (prompt, written) || !calls.All(c => written.Contains(c.Name, StringComparison.Ordinal)))
        {
            return false;
        }

        var parsed = Parsed.Same(format, reasoning, prompt, s_tools, written);
        var (expectsContent, expectsThought) = (written.Contains(Before, StringComparison.Ordinal), written.Contains(Thought, StringComparison.Ordinal) && !prompt.Contains(Thought, StringComparison.Ordinal));

        // gpt-oss has what was said before a call in its analysis.
        var inAnalysis = written.Contains("analysis<|message|>" + Before, StringComparison.Ordinal);
        Assert.That(parsed.Calls.Select(static c => c.Name), Is.EqualTo(calls.Select(static c => c.Name)), written);
        for (var i = 0; i < calls.Length; i++)
        {
            Assert.That(JsonNode.DeepEquals(parsed.Calls[i].Arguments, JsonNode.Parse(calls[i].Arguments)), Is.True, $"{parsed.Calls[i].Arguments?.ToJsonString()}\n{written}");
        }

        Assert.That(parsed.Content.Trim(), Is.EqualTo(expectsContent && !inAnalysis ? Before : ""), written);
        Assert.That(parsed.Reasoning.Trim(), Is.EqualTo(inAnalysis ? Before : expectsThought ? Thought : ""), written);
        Assert.That(parsed.Ids, Is.Unique.And.All.Not.Empty);
        return true;
    }

    // The prompt, and what the template then writes for the answer; null if it refuses the answer.
    private static (string Prompt, string Written)? Render(string template, ReasoningFormat reasoning, (string Name, string Arguments)[] calls, string content, string thought)
    {
        foreach (var (asText, none) in new[] { (false, false), (true, false), (false, true), (true, true) })
        {
            var answer = new JsonObject
            {
                ["role"] = "assistant",
                ["content"] = none && content.Length == 0 ? null : content,
                ["tool_calls"] = new JsonArray([.. calls.Select((c, i) => new JsonObject
                {
                    ["id"] = $"abcdef12{i}",
                    ["type"] = "function",
                    ["function"] = new JsonObject { ["name"] = c.Name, ["arguments"] = asText ? JsonValue.Create(c.Arguments) : JsonNode.Parse(c.Arguments) },
                })]),
            };
            if (thought.Length > 0)
            {
                answer["reasoning_content"] = thought;
            }

            try
            {
                var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = Question });
                var parsed = ChatTemplate.Parse(template, "template");
                var prompt = parsed.Render(Input(messages, true));
                messages = reasoning.Placed(new JsonArray(messages[0]!.DeepClone(), answer));
                var all = parsed.Render(Input(messages, false));

                // Where JSON is put into text as text that is safe, jinja escapes the text around it; such templates take arguments as text.
                if (all.Contains(calls[0].Name, StringComparison.Ordinal) && Split(prompt, all) is { } split && !split.Written.Contains("&#34;", StringComparison.Ordinal))
                {
                    return split;
                }
            }
            catch (ChatTemplateException)
            {
            }
        }

        return null;
    }

    private static ChatTemplateInput Input(JsonArray messages, bool ask) => new()
    {
        Messages = messages,
        Tools = s_tools.DeepClone(),
        AddGenerationPrompt = ask,
        SpecialTokens = new Dictionary<string, string> { ["bos_token"] = "<s>", ["eos_token"] = "</s>" },
        Variables = new JsonObject { ["functions"] = "those of the tools", ["datetime"] = "2 January 2025" },
        Now = new DateTimeOffset(2025, 1, 2, 3, 4, 5, TimeSpan.Zero),
    };

    private static (string Prompt, string Written)? Split(string prompt, string all)
    {
        var common = prompt.AsSpan().CommonPrefixLength(all);
        while (common < prompt.Length && common > 0 && all[common - 1] is not ('>' or '\n' or ']'))
        {
            common--;
        }

        if (!all[..common].Contains(Question, StringComparison.Ordinal))
        {
            return null;
        }

        var written = all[common..];
        var end = s_ends.Select(e => written.IndexOf(e, StringComparison.Ordinal)).Where(static e => e >= 0).DefaultIfEmpty(written.Length).Min();
        return (all[..common], written[..end]);
    }
}
