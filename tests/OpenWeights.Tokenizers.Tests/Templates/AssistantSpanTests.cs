using System.Text.Json.Nodes;

using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>What the assistant has to produce, for every way of writing a template that was thought of.</summary>
public sealed class AssistantSpanTests
{
    private const string TwoTurns = """
        [{"role": "system", "content": "S"}, {"role": "user", "content": "U1"}, {"role": "assistant", "content": "A1"},
         {"role": "user", "content": "U2"}, {"role": "assistant", "content": "A2"}]
        """;

    [Test]
    public void The_header_is_excluded_and_the_end_of_turn_token_included_but_not_the_newline_behind_it()
    {
        const string ChatMl = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        Expect(ChatMl, TwoTurns, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n⟦A1<|im_end|>⟧\n"
            + "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n⟦A2<|im_end|>⟧\n");
    }

    [Test]
    public void Without_a_header_the_turn_begins_where_the_users_ends()
    {
        const string Mistral = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
            + "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}";
        Expect(Mistral, TwoTurns, "<s>[INST] U1 [/INST]⟦ A1</s>⟧[INST] U2 [/INST]⟦ A2</s>⟧");
    }

    [Test]
    public void A_header_in_the_users_turn_is_excluded()
    {
        const string Template = "{% for m in messages %}{% if m.role == 'user' %}U: {{ m.content }}\nA:{% elif m.role == 'assistant' %} "
            + "{{ m.content }}{{ eos_token }}\n{% endif %}{% endfor %}";
        Expect(Template, TwoTurns, "U: U1\nA:⟦ A1</s>⟧\nU: U2\nA:⟦ A2</s>⟧\n");
    }

    [Test]
    public void A_blank_that_the_users_turn_writes_only_before_an_answer_is_the_models()
    {
        const string Template = "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% if not loop.last %} {% endif %}"
            + "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}{% endif %}{% endfor %}";
        Expect(Template, TwoTurns, "[INST]U1[/INST]⟦ A1</s>⟧[INST]U2[/INST]⟦ A2</s>⟧");
    }

    [Test]
    public void A_header_that_the_users_turn_writes_only_before_an_answer_is_not_the_models()
    {
        const string Template = "{% for m in messages %}{% if m.role == 'user' %}[U]{{ m.content }}{% if not loop.last %}[A]{% endif %}"
            + "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}{% endif %}{% endfor %}";
        var chat = Expect(Template, TwoTurns, "[U]U1[A]⟦A1</s>⟧[U]U2[A]⟦A2</s>⟧");
        Assert.That(chat.Warnings, Has.One.Contains("no generation prompt"));
    }

    [Test]
    public void An_end_token_at_the_end_of_the_text_alone_ends_the_last_turn()
    {
        const string Template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
            + "{% if add_generation_prompt %}assistant: {% else %}{{ eos_token }}{% endif %}";
        Expect(Template, TwoTurns, "system: S\n\nuser: U1\n\nassistant: ⟦A1⟧\n\nuser: U2\n\nassistant: ⟦A2\n\n</s>⟧");
    }

    [Test]
    public void An_end_token_behind_a_turn_that_has_one_of_its_own_is_not_the_models()
    {
        const string Phi = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}";
        Expect(Phi, TwoTurns, "<|system|>\nS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\n⟦A1<|end|>⟧\n"
            + "<|user|>\nU2<|end|>\n<|assistant|>\n⟦A2<|end|>⟧\n</s>");
    }

    [Test]
    public void An_end_token_that_the_next_turn_writes_belongs_to_the_turn_before()
    {
        const string Template = "{% for m in messages %}{% if not loop.first %}{{ eos_token }}\n{% endif %}<|{{ m.role }}|>{{ m.content }}"
            + "{% endfor %}{{ eos_token }}{% if add_generation_prompt %}\n<|assistant|>{% endif %}";
        Expect(Template, TwoTurns, "<|system|>S</s>\n<|user|>U1</s>\n<|assistant|>⟦A1</s>⟧\n<|user|>U2</s>\n<|assistant|>⟦A2</s>⟧");
    }

    [Test]
    public void An_end_token_that_only_the_next_turn_knows_belongs_to_the_turn_before_and_is_told_as_missing_at_the_end()
    {
        const string Template = "{% set ns = namespace(open=false) %}{% for m in messages %}{% if m.role == 'user' %}"
            + "{% if ns.open %}<|assistant_end|>{% set ns.open = false %}{% endif %}<|user_start|>{{ m.content }}<|user_end|>"
            + "{% elif m.role == 'assistant' %}{% if not ns.open %}<|assistant_start|>{% set ns.open = true %}{% endif %}{{ m.content }}"
            + "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant_start|>{% endif %}";
        var chat = Expect(Template, TwoTurns, "<|user_start|>U1<|user_end|><|assistant_start|>⟦A1<|assistant_end|>⟧<|user_start|>U2<|user_end|>"
            + "<|assistant_start|>⟦A2⟧");
        Assert.That(chat.MissingEnd, Is.EqualTo("<|assistant_end|>"));
        Assert.That(chat.Warnings, Is.Empty);
    }

    [Test]
    public void A_token_that_serving_stops_at_ends_a_turn_although_it_begins_the_next()
    {
        const string Template = "[gMASK]<sop>{% for m in messages %}<|{{ 'observation' if m.role == 'tool' else m.role }}|>\n{{ m.content }}"
            + "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}</tool_call>{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}";
        var call = JsonNode.Parse("""{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}""")!;
        var messages = new JsonArray(Message("user", "U1"), Message("assistant", "A1"), Message("user", "U2"), call, Message("tool", "T"), Message("assistant", "A2"));
        RenderedChat Render(JsonArray chat, params string[] ends) =>
            ChatTemplate.Parse(Template, "glm").RenderWithSpans(new ChatTemplateInput { Messages = chat, EndTokens = ends, SpecialTokens = new Dictionary<string, string> { ["eos_token"] = "<|endoftext|>" } });
        var chat = Render(messages, "<|endoftext|>", "<|user|>", "<|observation|>");
        Assert.That(chat.Marked(), Is.EqualTo("[gMASK]<sop><|user|>\nU1<|assistant|>\n⟦A1<|user|>⟧\nU2<|assistant|>\n⟦<tool_call>f</tool_call><|observation|>⟧\nT<|assistant|>\n⟦A2⟧"));
        Assert.That((chat.MissingEnd, chat.Warnings.Count), Is.EqualTo(("<|user|>", 0)));
        var cut = Render([.. messages.Take(4).Select(static m => m!.DeepClone())], "<|user|>", "<|observation|>");
        Assert.That(cut.MissingEnd, Is.EqualTo("<|observation|>"), "a tool answers next");
        var without = Render([.. messages.Take(3).Select(static m => m!.DeepClone())]);
        Assert.That(without.Marked(), Does.EndWith("⟦A1⟧<|user|>\nU2"), "where serving does not stop, the next turn is not this one's");
        Assert.That(without.Warnings, Has.One.Contains("does not teach the model to stop"));

        static JsonObject Message(string role, string content) => new() { ["role"] = role, ["content"] = content };
    }

    [Test]
    public void What_the_next_turn_writes_in_any_case_is_not_the_end_of_the_turn_before()
    {
        const string Template = "{% for m in messages %}{% if m.role == 'user' %}<bos>[Q] {{ m.content }}{% elif m.role == 'assistant' %}"
            + "[A] {{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}[A]{% endif %}";
        var chat = Expect(Template, TwoTurns, "<bos>[Q] U1[A]⟦ A1⟧<bos>[Q] U2[A]⟦ A2⟧");
        Assert.That(chat.Warnings, Has.One.Contains("does not teach the model to stop"));
    }

    [Test]
    public void A_last_turn_that_is_written_behind_the_loop_has_its_header_excluded_and_its_end_included()
    {
        const string Nemotron = "{% set last = messages[-1].content if messages[-1].role == 'assistant' else none %}"
            + "{% set messages = messages[:-1] if last is not none else messages %}{% for m in messages %}<{{ m.role }}>\n{{ m.content }}\n"
            + "{% if m.role == 'assistant' %}<end>\n{% endif %}{% endfor %}{% if add_generation_prompt or last is not none %}<assistant>\n"
            + "{% endif %}{% if last is not none %}{{ last }}\n<end>\n{% endif %}";
        Expect(Nemotron, TwoTurns, "<system>\nS\n<user>\nU1\n<assistant>\n⟦A1\n<end>⟧\n<user>\nU2\n<assistant>\n⟦A2\n<end>⟧\n");
    }

    [Test]
    public void A_tag_that_the_prompt_and_the_turn_begin_alike_is_not_cut()
    {
        const string Template = "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<|text|>{% endif %}{{ m.content }}<|end|>"
            + "{% endfor %}{% if add_generation_prompt %}<|assistant|><|think|>{% endif %}";
        Expect(Template, TwoTurns, "<|system|>S<|end|><|user|>U1<|end|><|assistant|>⟦<|text|>A1<|end|>⟧<|user|>U2<|end|>"
            + "<|assistant|>⟦<|text|>A2<|end|>⟧");
    }

    [Test]
    public void A_second_turn_of_the_assistant_has_its_header_excluded_although_no_prompt_is_written_behind_the_first()
    {
        const string Template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
            + "{% if add_generation_prompt and messages[-1].role != 'assistant' %}<assistant>{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "A1"}, {"role": "assistant", "content": "A2"}]
            """;
        Expect(Template, Messages, "<user>U1<end><assistant>⟦A1<end>⟧<assistant>⟦A2<end>⟧");
    }

    [Test]
    public void Results_that_the_template_writes_into_the_calling_turn_are_not_the_models()
    {
        const string Gemma = "{% for m in messages %}{% if m.role != 'tool' %}{% if not (loop.index0 > 1 and m.role == 'assistant') %}<{{ m.role }}>"
            + "{% endif %}{{ m.content }}{% if m.tool_calls %}<call>{{ m.tool_calls[0].function.name }}</call><result>"
            + "{% if not loop.last %}{{ messages[loop.index].content }}</result>{% endif %}{% else %}<end>{% endif %}{% endif %}{% endfor %}"
            + "{% if add_generation_prompt and messages[-1].role == 'user' %}<assistant>{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
             {"role": "tool", "content": "R1"}, {"role": "assistant", "content": "A2"}]
            """;
        Expect(Gemma, Messages, "<user>U1<end><assistant>⟦<call>f</call><result>⟧R1</result>⟦A2<end>⟧");
    }

    [Test]
    public void A_tool_call_that_is_gathered_as_JSON_is_the_models_to_its_last_bracket()
    {
        const string Template = "{% set ns = namespace(out='') %}{% for m in messages %}{% set ns.out = ns.out ~ '<' ~ m.role ~ '>' ~ (m.content or '') %}"
            + "{% for c in m.tool_calls or [] %}{% set ns.out = ns.out ~ c.function|tojson ~ '</call>' %}{% endfor %}{% set ns.out = ns.out ~ '<end>' %}"
            + "{% endfor %}{{ ns.out }}{% if add_generation_prompt %}<assistant>{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"n": [1]}}}]}]
            """;
        Expect(Template, Messages, "<user>U1<end><assistant>⟦{\"name\": \"f\", \"arguments\": {\"n\": [1]}}</call><end>⟧");
    }

    [Test]
    public void A_turn_that_goes_on_behind_the_results_of_its_calls_begins_there()
    {
        const string Template = "{% set ns = namespace(open=false) %}{% for m in messages %}{% if m.role == 'user' %}<user>{{ m.content }}"
            + "{% elif m.role == 'tool' %}[{{ m.content }}{% else %}{% if ns.open %}]{% else %}<assistant>{% endif %}{% set ns.open = true %}"
            + "{% if m.tool_calls %}<call>{{ m.tool_calls[0].name }}</call>{% else %}{{ m.content }}<end>{% endif %}{% endif %}{% endfor %}"
            + "{% if add_generation_prompt %}{% if ns.open %}]{% endif %}<assistant>{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]},
             {"role": "tool", "content": "R1"}, {"role": "assistant", "content": "", "tool_calls": [{"name": "g"}]},
             {"role": "tool", "content": "R2"}, {"role": "assistant", "content": "A3"}]
            """;
        Expect(Template, Messages, "<user>U1<assistant>⟦<call>f</call>⟧[R1]⟦<call>g</call>⟧[R2]⟦A3<end>⟧");
    }

    [Test]
    public void Text_that_the_template_writes_around_the_content_is_the_models_if_the_prompt_does_not_have_it()
    {
        const string Cohere = "{% for m in messages %}<|T|><|{{ 'BOT' if m.role == 'assistant' else 'OTHER' }}|>{% if m.role == 'assistant' %}"
            + "<|START|>{{ m.content }}<|STOP|>{% else %}{{ m.content }}{% endif %}<|EOT|>{% endfor %}<|T|><|BOT|>";
        Expect(Cohere, TwoTurns, "<|T|><|OTHER|>S<|EOT|><|T|><|OTHER|>U1<|EOT|><|T|><|BOT|>⟦<|START|>A1<|STOP|><|EOT|>⟧"
            + "<|T|><|OTHER|>U2<|EOT|><|T|><|BOT|>⟦<|START|>A2<|STOP|><|EOT|>⟧<|T|><|BOT|>");
    }

    [Test]
    public void Reasoning_that_earlier_turns_lose_is_trained_only_where_it_stands()
    {
        const string Qwen3 = "{% for m in messages %}{% set c = m.content %}{% if m.role == 'assistant' and not loop.last %}"
            + "{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ '<' + m.role + '>' + c + '<end>' }}{% endfor %}"
            + "{% if add_generation_prompt %}<assistant>{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "<think>\nT1\n</think>\n\nA1"},
             {"role": "user", "content": "U2"}, {"role": "assistant", "content": "<think>\nT2\n</think>\n\nA2"}]
            """;
        Expect(Qwen3, Messages, "<user>U1<end><assistant>⟦A1<end>⟧<user>U2<end><assistant>⟦<think>\nT2\n</think>\n\nA2<end>⟧");
    }

    [Test]
    public void A_generation_prompt_that_opens_the_reasoning_leaves_the_header_where_it_is_the_same()
    {
        const string R1 = "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<Assistant>' + m.content.split('</think>')[-1] + eos_token }}"
            + "{% else %}{{ '<User>' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<Assistant><think>\n{% endif %}";
        const string Messages = """[{"role": "user", "content": "U1"}, {"role": "assistant", "content": "<think>T1</think>A1"}]""";
        var chat = Expect(R1, Messages, "<User>U1<Assistant>⟦A1</s>⟧");
        Assert.That(chat.Warnings, Has.One.Contains("do not follow exactly the prompt"));
    }

    [Test]
    public void A_generation_prompt_with_empty_reasoning_is_not_the_models_where_the_turn_has_it_too()
    {
        const string Template = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}<think>{{ m.reasoning }}</think>{% endif %}"
            + "{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant><think></think>{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "A1"}, {"role": "user", "content": "U2"},
             {"role": "assistant", "content": "A2", "reasoning": "T2"}]
            """;
        Expect(Template, Messages, "<user>U1<end><assistant><think></think>⟦A1<end>⟧<user>U2<end><assistant><think>⟦T2</think>A2<end>⟧");
    }

    [Test]
    public void A_tool_call_is_the_models_and_a_tool_result_is_not()
    {
        const string Hermes = "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.content %}{{ '\n' + m.content }}{% endif %}"
            + "{% for c in m.tool_calls or [] %}{{ '\n<tool_call>\n' }}{{ c.function|tojson }}{{ '\n</tool_call>' }}{% endfor %}"
            + "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"},
             {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"n": 1}}}]},
             {"role": "tool", "content": "R1"}, {"role": "assistant", "content": "A2"}]
            """;
        Expect(Hermes, Messages, "<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n⟦<tool_call>\n{\"name\": \"f\", \"arguments\": "
            + "{\"n\": 1}}\n</tool_call><|im_end|>⟧\n<|im_start|>tool\nR1<|im_end|>\n<|im_start|>assistant\n⟦A2<|im_end|>⟧\n");
    }

    [Test]
    public void A_tool_call_without_any_header_is_the_models_from_its_first_token()
    {
        const string Mistral = "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.tool_calls %}"
            + "[TOOL_CALLS]{{ m.tool_calls|tojson }}{{ eos_token }}{% elif m.role == 'tool' %}[RESULT]{{ m.content }}[/RESULT]"
            + "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]},
             {"role": "tool", "content": "R1"}, {"role": "assistant", "content": "A2"}]
            """;
        Expect(Mistral, Messages, "[INST]U1[/INST]⟦[TOOL_CALLS][{\"name\": \"f\"}]</s>⟧[RESULT]R1[/RESULT]⟦A2</s>⟧");
    }

    [Test]
    public void Tools_that_move_to_the_last_user_turn_do_not_move_the_spans()
    {
        const string Nemo = "{% set users = messages|selectattr('role', 'equalto', 'user')|list %}{% for m in messages %}"
            + "{% if m.role == 'user' %}{% if m == users[-1] %}[TOOLS]{{ tools|tojson }}[/TOOLS]{% endif %}[INST]{{ m.content }}[/INST]"
            + "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}{% endif %}{% endfor %}";
        Expect(Nemo, TwoTurns, "[INST]U1[/INST]⟦A1</s>⟧[TOOLS][1][/TOOLS][INST]U2[/INST]⟦A2</s>⟧", tools: "[1]");
    }

    [Test]
    public void A_system_message_in_the_first_user_turn_changes_nothing()
    {
        const string Gemma = "{% set sys = '' %}{% if messages[0].role == 'system' %}{% set sys = messages[0].content + '\\n' %}"
            + "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}<start>{{ 'model' if m.role == 'assistant' else m.role }}\n"
            + "{{ (sys if loop.first else '') + m.content|trim }}<stop>\n{% endfor %}{% if add_generation_prompt %}<start>model\n{% endif %}";
        Expect(Gemma, TwoTurns, "<start>user\nS\nU1<stop>\n<start>model\n⟦A1<stop>⟧\n<start>user\nU2<stop>\n<start>model\n⟦A2<stop>⟧\n");
    }

    [Test]
    public void Messages_that_the_template_merges_part_where_the_next_ones_text_begins()
    {
        const string Merging = "{% set ns = namespace(out=[], role='', text='') %}{% for m in messages + [{'role': 'END'}] %}"
            + "{% if m.role != ns.role %}{% if ns.role %}{% set ns.out = ns.out + [{'role': ns.role, 'content': ns.text}] %}{% endif %}"
            + "{% set ns.role = m.role %}{% set ns.text = m.content or '' %}{% else %}{% set ns.text = ns.text ~ '+' ~ m.content %}{% endif %}"
            + "{% endfor %}{% for m in ns.out %}{% if m.role == 'user' %}[{{ m.content }}]{% else %}{{ m.content ~ eos_token }}{% endif %}{% endfor %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "A1"}, {"role": "assistant", "content": "A2"},
             {"role": "user", "content": "U3"}, {"role": "assistant", "content": "A4"}]
            """;
        var chat = Expect(Merging, Messages, "[U1]⟦A1+⟧⟦A2</s>⟧[U3]⟦A4</s>⟧");
        Assert.That(chat.AssistantSpans.Select(span => span.MessageIndex), Is.EqualTo(new[] { 1, 2, 4 }));
        Assert.That(chat.MessageSpans.Select(span => (span.MessageIndex, chat.TextOf(span))),
            Is.EqualTo(new[] { (0, "[U1]"), (1, "A1+"), (2, "A2</s>"), (3, "[U3]"), (4, "A4</s>") }));
    }

    [Test]
    public void A_loop_over_numbers_is_followed_to_its_messages()
    {
        const string Template = "{% for i in range(messages|length) %}{% set m = messages[i] %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
            + "{% if add_generation_prompt %}<assistant>{% endif %}";
        Expect(Template, TwoTurns, "<system>S<end>\n<user>U1<end>\n<assistant>⟦A1<end>⟧\n<user>U2<end>\n<assistant>⟦A2<end>⟧\n");
    }

    [Test]
    public void A_text_that_is_gathered_and_written_at_the_end_is_followed_too()
    {
        const string Template = "{% set ns = namespace(out='') %}{% for m in messages %}"
            + "{% set ns.out = ns.out ~ '<' ~ m.role ~ '>' ~ m.content|trim ~ '<end>\\n' %}{% endfor %}"
            + "{{ ns.out }}{% if add_generation_prompt %}<assistant>{% endif %}";
        Expect(Template, TwoTurns, "<system>S<end>\n<user>U1<end>\n<assistant>⟦A1<end>⟧\n<user>U2<end>\n<assistant>⟦A2<end>⟧\n");
    }

    [Test]
    public void A_macro_that_writes_the_turns_is_followed_too()
    {
        const string Template = "{% macro turn(m) %}<{{ m.role }}>{{ m['content'] | upper | replace('A', 'Ä') }}<end>\n{% endmacro %}"
            + "{% for m in messages %}{{ turn(m) }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        Expect(Template, TwoTurns, "<system>S<end>\n<user>U1<end>\n<assistant>⟦Ä1<end>⟧\n<user>U2<end>\n<assistant>⟦Ä2<end>⟧\n");
    }

    [Test]
    public void Pairs_of_messages_in_one_iteration_part_at_the_end_token()
    {
        const string Template = "{% for i in range(0, messages|length, 2) %}<s>[INST] {{ messages[i].content }} [/INST]"
            + "{% if i + 1 < messages|length %} {{ messages[i + 1].content }} </s>{% endif %}{% endfor %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "A1"},
             {"role": "user", "content": "U2"}, {"role": "assistant", "content": "A2"}]
            """;
        Expect(Template, Messages, "<s>[INST] U1 [/INST]⟦ A1 </s>⟧<s>[INST] U2 [/INST]⟦ A2 </s>⟧");
    }

    [Test]
    public void Generation_blocks_are_taken_as_their_author_wrote_them()
    {
        const string Template = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<end>\n"
            + "{% endgeneration %}{% else %}{{ m.content }}<end>\n{% endif %}{% endfor %}";
        var chat = Expect(Template, TwoTurns, "<system>S<end>\n<user>U1<end>\n<assistant>⟦A1<end>\n⟧<user>U2<end>\n<assistant>⟦A2<end>\n⟧");
        Assert.That(chat.AssistantSpans.Select(span => span.MessageIndex), Is.EqualTo(new[] { 2, 4 }));
    }

    [Test]
    public void A_template_without_a_generation_prompt_still_has_its_header_excluded_and_says_so()
    {
        const string Template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}";
        var chat = Expect(Template, TwoTurns, "<|system|>S</s><|user|>U1</s><|assistant|>⟦A1</s>⟧<|user|>U2</s><|assistant|>⟦A2</s>⟧");
        Assert.That(chat.Warnings, Has.One.Contains("no generation prompt"));
    }

    [Test]
    public void A_template_that_writes_no_end_of_turn_says_so()
    {
        const string Template = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
            + "{% if add_generation_prompt %}### assistant:\n{% endif %}";
        var chat = Expect(Template, TwoTurns, "### system:\nS\n\n### user:\nU1\n\n### assistant:\n⟦A1⟧\n\n### user:\nU2\n\n### assistant:\n⟦A2⟧\n\n");
        Assert.That(chat.Warnings, Has.One.Contains("does not teach the model to stop"));
    }

    [Test]
    public void Tool_calls_that_the_template_leaves_out_are_told()
    {
        const string Template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look_up"}}]}]
            """;
        var chat = Expect(Template, Messages, "<user>U1<end><assistant>⟦<end>⟧");
        Assert.That(chat.Warnings, Has.One.Contains("leaves out"));
    }

    [TestCase("{% for m in messages %}<{{ m.role }}>{{ m.content if m.content is string }}<end>{% endfor %}",
        """{"role": "assistant", "content": [{"type": "text", "text": "A1"}]}""")]
    [TestCase("{% for m in messages %}<{{ m.role }}>{{ m.tool_calls[0].function.name if m.tool_calls else m.content }}<end>{% endfor %}",
        """{"role": "assistant", "content": "A1", "tool_calls": [{"function": {"name": "f"}}]}""")]
    [TestCase("{% for m in messages %}<{{ m.role }}>{% generation %}{{ m.content if m.content is string }}<end>{% endgeneration %}{% endfor %}",
        """{"role": "assistant", "content": [{"type": "text", "text": "A1"}]}""")]
    public void An_answer_that_the_template_leaves_out_is_told(string source, string answer)
    {
        var chat = ChatTemplate.Parse(source, "t").RenderWithSpans(Input($$"""[{"role": "user", "content": "U1"}, {{answer}}]"""));
        Assert.That(chat.Warnings, Has.One.Contains("leaves out"));
    }

    [Test]
    public void Reasoning_that_earlier_turns_lose_is_not_told_as_left_out()
    {
        const string Template = "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}<end>{% endfor %}";
        const string Messages = """[{"role": "user", "content": "U1"}, {"role": "assistant", "content": "<think>T1</think>\n\nÄrger, 21 °C."}]""";
        var chat = ChatTemplate.Parse(Template, "t").RenderWithSpans(Input(Messages));
        Assert.That(chat.Warnings, Has.None.Contains("leaves out"));
    }

    [Test]
    public void White_space_of_the_message_itself_is_the_models_and_that_of_the_template_is_not()
    {
        const string Template = "{% for m in messages %}{{ m.role }}:\n{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}";
        const string Messages = """[{"role": "user", "content": "U1"}, {"role": "assistant", "content": "  A1 \n"}]""";
        Expect(Template, Messages, "user:\nU1\nassistant:\n⟦  A1 \n⟧\n");
    }

    [Test]
    public void A_message_that_looks_like_a_header_or_an_end_token_moves_nothing()
    {
        const string ChatMl = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
        const string Messages = """
            [{"role": "user", "content": "<|im_start|>assistant\nA1<|im_end|>"},
             {"role": "assistant", "content": "<|im_start|>assistant\n</s><|im_end|>\nA1"}]
            """;
        Expect(ChatMl, Messages, "<|im_start|>user\n<|im_start|>assistant\nA1<|im_end|><|im_end|>\n<|im_start|>assistant\n"
            + "⟦<|im_start|>assistant\n</s><|im_end|>\nA1<|im_end|>⟧\n");
    }

    [Test]
    public void Other_roles_are_the_models_if_it_is_told_so()
    {
        const string Template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<model>{% endif %}";
        var input = Input("""[{"role": "user", "content": "U1"}, {"role": "model", "content": "A1"}]""");
        var template = ChatTemplate.Parse(Template, "t");
        Assert.That(template.RenderWithSpans(input).AssistantSpans, Is.Empty);
        Assert.That(template.RenderWithSpans(input, ["model"]).Marked(), Is.EqualTo("<user>U1<end><model>⟦A1<end>⟧"));
    }

    [Test]
    public void A_generation_prompt_at_the_end_belongs_to_nobody()
    {
        const string Template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% if loop.last and add_generation_prompt %}<assistant>"
            + "{% endif %}{% endfor %}";
        Expect(Template, TwoTurns, "<system>S<end>\n<user>U1<end>\n<assistant>⟦A1<end>⟧\n<user>U2<end>\n<assistant>⟦A2<end>⟧\n<assistant>",
            addGenerationPrompt: true);
    }

    [Test]
    public void A_conversation_that_begins_with_the_assistant_is_marked_although_no_prompt_can_be_rendered()
    {
        const string Template = "{{ messages[0].role[:0] }}{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
            + "{% if add_generation_prompt %}<assistant>{% endif %}";
        Expect(Template, """[{"role": "assistant", "content": "A0"}, {"role": "user", "content": "U1"}]""",
            "<assistant>⟦A0<end>⟧<user>U1<end>");
    }

    [TestCase("{% for m in messages %}{{ m.content }}|{% endfor %}\n{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}",
        "in several places")]
    [TestCase("{% for m in messages %}<bot>{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
        "does not begin like the template's generation prompt")]
    [TestCase("{% for i in range(0, messages|length, 2) %}U:{{ messages[i].content }};A:{{ (messages[i+1] or {}).content }};{% endfor %}",
        "turn of another message")]
    public void A_template_for_which_it_cannot_be_told_is_refused_with_what_to_do(string source, string reason)
    {
        var messages = """
            [{"role": "user", "content": "U1"}, {"role": "assistant", "content": "A1"},
             {"role": "user", "content": "U2"}, {"role": "assistant", "content": "A2"}]
            """;
        var error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.Parse(source, "t").RenderWithSpans(Input(messages)))!;
        Assert.That(error.Kind, Is.EqualTo(ChatTemplateErrorKind.Spans));
        Assert.That(error.Reason, Does.Contain("message 2 (assistant)").And.Contain(reason).And.Contain("{% generation %}").And.Contain("data.train_on: all").And.Contain("data.train_on: completion"));
        Assert.That(error.Message, Does.StartWith("t: ").And.Not.Contain(". "), "one sentence, with the template's name");
        Assert.That(ChatTemplate.Parse(source, "t").RenderWithSpans(Input(messages), []).AssistantSpans, Is.Empty, "what train_on: all asks for");
    }

    [Test]
    public void The_last_turn_alone_can_be_told_where_an_earlier_one_cannot()
    {
        const string Template = "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}<bot>{% else %}<{{ m.role }}>{% endif %}"
            + "{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        var template = ChatTemplate.Parse(Template, "t");
        var error = Assert.Throws<ChatTemplateException>(() => template.RenderWithSpans(Input(TwoTurns)))!;
        Assert.That(error.Kind, Is.EqualTo(ChatTemplateErrorKind.Spans));
        Assert.That(template.RenderWithSpans(Input(TwoTurns), lastTurnAlone: true).Marked(), Is.EqualTo(
            "<system>S<end><user>U1<end><bot>A1<end><user>U2<end><assistant>⟦A2<end>⟧"));
    }

    private static RenderedChat Expect(
        string source, string messages, string marked, string? tools = null, bool addGenerationPrompt = false)
    {
        var template = ChatTemplate.Parse(source, "t");
        var input = Input(messages, tools, addGenerationPrompt);
        var chat = template.RenderWithSpans(input);
        Assert.That(chat.Marked(), Is.EqualTo(marked));
        Assert.That(chat.Text, Is.EqualTo(template.Render(input)));
        return chat;
    }

    private static ChatTemplateInput Input(string messages, string? tools = null, bool addGenerationPrompt = false) => new()
    {
        Messages = JsonNode.Parse(messages)!.AsArray(),
        Tools = tools is null ? null : JsonNode.Parse(tools),
        AddGenerationPrompt = addGenerationPrompt,
        SpecialTokens = new Dictionary<string, string> { ["bos_token"] = "<s>", ["eos_token"] = "</s>" },
    };
}
