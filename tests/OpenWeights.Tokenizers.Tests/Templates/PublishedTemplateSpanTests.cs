using System.Text.Json;
using System.Text.Json.Nodes;

using NUnit.Framework;

using OpenWeights.Testing;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>What the assistant produces in every published template: as a person marks it, and by checks that know nothing of how it is found.</summary>
public sealed class PublishedTemplateSpanTests
{
    private const string Joke = "Why did the chicken cross the road?";

    /// <summary>
    /// By template: what of the text stands, in the eyes of a person who read the template, around the answers "Hello!" and
    /// <see cref="Joke"/> of the case two_turns_complete and belongs to them.
    /// </summary>
    private static readonly Dictionary<string, Surroundings> Table = JsonSerializer.Deserialize<Dictionary<string, Surroundings>>(
        File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Templates", "published-template-spans.json")), JsonSerializerOptions.Web)!;

    /// <summary>Templates that write the next prompt whether or not it is asked for, or an end token behind the last end of turn.</summary>
    private static readonly HashSet<string> WriteMoreAtTheEnd =
    [
        "chat-templates/llama.cpp/CohereForAI-c4ai-command-r-plus-tool_use.jinja",
        "chat-templates/llama.cpp/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
        "chat-templates/llama.cpp/fireworks-ai-llama-3-firefunction-v2.jinja",
        "chat-templates/llama.cpp-2026/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja",
        "chat-templates/llama.cpp-2026/fireworks-ai-llama-3-firefunction-v2.jinja",
        "chat-templates/llama.cpp/microsoft-Phi-3.5-mini-instruct.jinja",
        "chat-templates/other/phi-4-mini-reasoning.jinja",
        "tokenizers/phi-3-mini/tokenizer_config.json",
    ];

    [TestCaseSource(typeof(TemplateFixtures), nameof(TemplateFixtures.TemplatePaths))]
    public void Each_answer_is_marked_as_a_person_would(string path)
    {
        var row = Table[path];
        var chat = Render(path, TemplateFixtures.Case("two_turns_complete"));
        Assert.That(chat.AssistantSpans.Select(span => (span.MessageIndex, chat.TextOf(span))),
            Is.EqualTo(new[] { (1, row.Before + "Hello!" + row.After), (3, row.BeforeLast + Joke + row.AfterLast) }));
    }

    [Test]
    public void Every_template_of_the_fixtures_is_looked_at()
    {
        var own = TemplateFixtures.TemplatePaths().Where(path => path.Contains("/own/", StringComparison.Ordinal)).ToList();
        Assert.That(own, Is.Not.Empty.And.SubsetOf(Table.Keys));
        _ = SharedFiles.RequireShared("fixtures", "chat-templates");
        Assert.That(TemplateFixtures.TemplatePaths(), Is.EquivalentTo(Table.Keys));
    }

    [TestCaseSource(typeof(TemplateFixtures), nameof(TemplateFixtures.TemplatePaths))]
    public void In_every_case_the_spans_fit_the_prompts_that_serving_sends(string path)
    {
        var template = TemplateFixtures.ReadTemplate(path);
        var checkedStarts = 0;
        Assert.Multiple(() =>
        {
            foreach (var item in TemplateFixtures.Cases().Where(item => template.Template.HasGenerationBlocks == false))
            {
                RenderedChat chat;
                var input = Input(path, template, item);
                try
                {
                    chat = template.Template.RenderWithSpans(input);
                }
                catch (ChatTemplateException error)
                {
                    Assert.That(error.Kind, Is.Not.EqualTo(ChatTemplateErrorKind.Spans), $"{item["name"]}: {error.Message}");
                    Assert.That(() => template.Template.Render(input), Throws.TypeOf<ChatTemplateException>(), item["name"]!.ToString());
                    continue;
                }

                CheckShape(chat, template.Template.Render(input), input.Messages, item["name"]!.ToString());
                foreach (var span in chat.AssistantSpans)
                {
                    checkedStarts += CheckAgainstPrompts(path, template, item, chat, span);
                }
            }
        });
        if (!template.Template.HasGenerationBlocks && !path.Contains("chujiezheng", StringComparison.Ordinal)
            && !path.Contains("deepseek", StringComparison.Ordinal) && !path.Contains("command-r-plus", StringComparison.Ordinal))
        {
            // The templates left out write another prompt than they write before a turn.
            Assert.That(checkedStarts, Is.GreaterThan(2), "the prompts must have been compared");
        }
    }

    [TestCaseSource(typeof(TemplateFixtures), nameof(TemplateFixtures.TemplatePaths))]
    public void Other_answers_give_the_same_spans_around_them(string path)
    {
        var row = Table[path];
        var item = TemplateFixtures.Case("two_turns_complete").DeepClone().AsObject();
        var answers = new[] { "Zürich 😀 [INST] \"x\"\n\n- assistant\n", "<|user|> {{ y }} {% raw %}" };
        item["messages"]![1]!["content"] = answers[0] + "end";
        item["messages"]![3]!["content"] = answers[1] + "end";
        var chat = Render(path, item);
        var texts = chat.AssistantSpans.Select(chat.TextOf).ToList();
        Assert.That(texts, Has.Count.EqualTo(2));
        Assert.That(texts[0].Replace("\n\n", "\n", StringComparison.Ordinal), Is.EqualTo(
            (row.Before + answers[0] + "end" + row.After).Replace("\n\n", "\n", StringComparison.Ordinal)));
        Assert.That(texts[1], Does.StartWith(row.BeforeLast).And.EndsWith(answers[1] + "end" + row.AfterLast));
    }

    [TestCase("tokenizers/qwen3/tokenizer_config.json", "tool_call_dict_args",
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}\n</tool_call><|im_end|>",
        "It is 21 °C.<|im_end|>")]
    [TestCase("chat-templates/llama.cpp/NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", "tool_call_dict_args",
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}\n</tool_call><|im_end|>",
        "It is 21 °C.<|im_end|>")]
    [TestCase("chat-templates/llama.cpp/meta-llama-Llama-3.1-8B-Instruct.jinja", "tool_call_dict_args",
        "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}<|eot_id|>", "It is 21 °C.<|eot_id|>")]
    [TestCase("chat-templates/mistral-common/v11.jinja", "tool_call_dict_args",
        "[TOOL_CALLS]get_weather[CALL_ID]call00001[ARGS]{\"city\": \"Paris\", \"unit\": \"celsius\"}</s>", "It is 21 °C.</s>")]
    [TestCase("chat-templates/llama.cpp/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja", "tool_call_dict_args",
        "<|START_THINKING|><|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", "
        + "\"parameters\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}\n]<|END_ACTION|><|END_OF_TURN_TOKEN|>",
        "<|START_RESPONSE|>It is 21 °C.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>")]
    [TestCase("chat-templates/llama.cpp-2026/google-gemma-4-31B-it.jinja", "tool_call_dict_args",
        "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,unit:<|\"|>celsius<|\"|>}<tool_call|><|tool_response>", "It is 21 °C.<turn|>")]
    [TestCase("chat-templates/llama.cpp-2026/google-gemma-4-31B-it-interleaved.jinja", "tool_call_dict_args",
        "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,unit:<|\"|>celsius<|\"|>}<tool_call|><turn|>", "It is 21 °C.<turn|>")]
    [TestCase("chat-templates/llama.cpp-2026/Apertus-8B-Instruct.jinja", "tool_call_dict_args",
        "<|tools_prefix|>[{\"get_weather\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}]<|tools_suffix|>", "It is 21 °C.<|assistant_end|>")]
    [TestCase("chat-templates/llama.cpp-2026/deepseek-ai-DeepSeek-V3.2.jinja", "tool_call_dict_args",
        "</think>\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Paris"
        + "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"unit\" string=\"true\">celsius</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
        + "</｜DSML｜function_calls><｜end▁of▁sentence｜>", "</think>It is 21 °C.<｜end▁of▁sentence｜>")]
    [TestCase("chat-templates/llama.cpp-2026/Reka-Edge.jinja", "tool_call_dict_args",
        " <tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}\n</tool_call>\n\n<sep>",
        " It is 21 °C.\n\n<sep>")]
    [TestCase("chat-templates/llama.cpp-2026/NVIDIA-Nemotron-Nano-v2.jinja", "bad_two_assistants",
        "b\n<SPECIAL_12>", "c\n<SPECIAL_12>")]
    [TestCase("chat-templates/llama.cpp-2026/tencent-Hy3.jinja", "bad_two_assistants", "b<｜hy_eos:opensource｜>", "c")]
    [TestCase("chat-templates/llama.cpp-2026/Apriel-1.6-15b-Thinker-fixed.jinja", "bad_two_assistants", "b\n<|end|>", "c")]
    [TestCase("tokenizers/qwen3/tokenizer_config.json", "thinking_turns",
        "Answer one<|im_end|>", "<think>\nstep two\n</think>\n\nAnswer two<|im_end|>")]
    [TestCase("tokenizers/minimind/tokenizer_config.json", "thinking_turns",
        "step one\n</think>\n\nAnswer one<|im_end|>", "step two\n</think>\n\nAnswer two<|im_end|>")]
    [TestCase("chat-templates/llama.cpp/deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", "thinking_turns",
        "\n\nAnswer one<｜end▁of▁sentence｜>", "\n\nAnswer two<｜end▁of▁sentence｜>")]
    [TestCase("tokenizers/gemma/tokenizer_config.json", "whitespace_edges", "padded assistant<end_of_turn>")]
    [TestCase("tokenizers/llama-3/tokenizer_config.json", "bad_two_assistants", "b<|eot_id|>", "c<|eot_id|>")]
    [TestCase("chat-templates/mistral-common/v3.jinja", "bad_two_assistants", "b\n\n", "c</s>")]
    [TestCase("chat-templates/own/chatml-tools.jinja", "tool_call_dict_args",
        "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}\n</tool_call><|im_end|>", "It is 21 °C.<|im_end|>")]
    [TestCase("chat-templates/own/headers.jinja", "tool_call_dict_args",
        "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\", \"unit\": \"celsius\"}}<|eot_id|>", "It is 21 °C.<|eot_id|>")]
    [TestCase("chat-templates/own/brackets.jinja", "tool_call_dict_args",
        "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"unit\": \"celsius\"}, \"id\": \"call00001\"}]</s>", " It is 21 °C.</s>")]
    [TestCase("chat-templates/own/chatml-tools.jinja", "thinking_turns", "Answer one<|im_end|>", "Answer two<|im_end|>")]
    public void Reasoning_tool_calls_and_merged_turns_are_marked_as_a_person_would(string path, string name, params string[] expected)
    {
        var item = TemplateFixtures.Case(name).DeepClone().AsObject();
        if (path.Contains("gemma", StringComparison.Ordinal))
        {
            item["messages"]!.AsArray().RemoveAt(0);
        }

        var chat = Render(path, item);
        Assert.That(chat.AssistantSpans.Select(chat.TextOf), Is.EqualTo(expected));
    }

    private static RenderedChat Render(string path, JsonObject item)
    {
        var template = TemplateFixtures.ReadTemplate(path);
        return template.Template.RenderWithSpans(Input(path, template, item));
    }

    /// <summary>The input of a case, with what a template cannot do without.</summary>
    private static ChatTemplateInput Input(string path, PublishedTemplate template, JsonObject item)
    {
        var full = item.DeepClone().AsObject();
        if (path.Contains("tool_use", StringComparison.Ordinal) && full["tools"] is null)
        {
            full["tools"] = new JsonArray();
        }

        if (path.Contains("firefunction", StringComparison.Ordinal))
        {
            full["kwargs"] = new JsonObject { ["functions"] = "[]", ["datetime"] = "today" };
        }

        return TemplateFixtures.Input(full, template.SpecialTokens, addGenerationPrompt: false);
    }

    private static void CheckShape(RenderedChat chat, string text, JsonArray messages, string name)
    {
        Assert.That(chat.Text, Is.EqualTo(text), name);
        var end = 0;
        foreach (var span in chat.AssistantSpans)
        {
            Assert.That(span.Start, Is.GreaterThanOrEqualTo(end), name);
            Assert.That(span.End, Is.LessThanOrEqualTo(text.Length), name);
            Assert.That(messages[span.MessageIndex]!["role"]!.ToString(), Is.EqualTo("assistant"), name);
            end = span.End;
        }
    }

    /// <summary>
    /// By rendering alone: a span begins where the prompt for its turn ends, if the text begins with that prompt; and behind its end,
    /// up to where the conversation so far ends, there is nothing to be seen.
    /// </summary>
    private static int CheckAgainstPrompts(string path, PublishedTemplate template, JsonObject item, RenderedChat chat, ChatSpan span)
    {
        var compared = 0;
        var name = $"{item["name"]}, message {span.MessageIndex}";
        var isMerged = span.MessageIndex > 0 && item["messages"]![span.MessageIndex - 1]!["role"]!.ToString() == "assistant";
        var isFirst = chat.AssistantSpans.First(other => other.MessageIndex == span.MessageIndex) == span;
        if (!isMerged && isFirst && Part(path, template, item, span.MessageIndex, withPrompt: true) is { } prompt
            && chat.Text.StartsWith(prompt, StringComparison.Ordinal))
        {
            Assert.That(span.Start, Is.EqualTo(prompt.Length), name);
            compared++;
        }

        var isFollowed = span.MessageIndex + 1 < item["messages"]!.AsArray().Count
            && item["messages"]![span.MessageIndex + 1]!["role"]!.ToString() == "assistant";
        if (!isFollowed && !WriteMoreAtTheEnd.Contains(path)
            && Part(path, template, item, span.MessageIndex + 1, withPrompt: false) is { } finished
            && chat.Text.StartsWith(finished, StringComparison.Ordinal))
        {
            if (Table[path] is { LastAfter: "" } row && finished.Length < span.End)
            {
                // What ends the turn is written only where another message follows, so it is not there yet.
                Assert.That(chat.Text[finished.Length..span.End], Is.EqualTo(row.After), name);
            }
            else
            {
                Assert.That(finished.Length, Is.GreaterThanOrEqualTo(span.End), name);
                Assert.That(finished[span.End..].Trim(), Is.Empty, name);
            }

            compared++;
        }

        return compared;
    }

    private static string? Part(string path, PublishedTemplate template, JsonObject item, int count, bool withPrompt)
    {
        var part = item.DeepClone().AsObject();
        part["messages"] = new JsonArray([.. part["messages"]!.AsArray().Take(count).Select(message => message!.DeepClone())]);
        var input = Input(path, template, part);
        try
        {
            return template.Template.Render(new ChatTemplateInput
            {
                Messages = input.Messages,
                Tools = input.Tools,
                Documents = input.Documents,
                AddGenerationPrompt = withPrompt,
                SpecialTokens = input.SpecialTokens,
                Variables = input.Variables,
                Now = input.Now,
            });
        }
        catch (ChatTemplateException)
        {
            return null;
        }
    }

    /// <summary>What belongs to the answers of a template, before and after them; of the last answer where it is something else.</summary>
    private sealed record Surroundings(string Before, string After, string? LastBefore, string? LastAfter, string? Why)
    {
        public string BeforeLast => LastBefore ?? Before;

        public string AfterLast => LastAfter ?? After;
    }
}
