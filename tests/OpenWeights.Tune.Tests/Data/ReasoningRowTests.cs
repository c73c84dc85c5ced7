using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Rows with reasoning: where the template writes it, and which of it is trained.</summary>
public sealed class ReasoningRowTests
{
    /// <summary>Messages in channels, as gpt-oss has them.</summary>
    internal const string Channels =
        "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.thinking and loop.last %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
        + "<|start|>assistant<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
        + "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";

    /// <summary>Reasoning between tags, which the prompt begins, and which is left out of all turns but the last.</summary>
    internal const string Tags =
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' and loop.last %}<think>\n{{ (m.reasoning_content or '') | trim }}\n</think>\n\n{% endif %}{{ m.content }}<end>{% endfor %}"
        + "{% if add_generation_prompt %}<assistant><think>\n{% if enable_thinking is defined and enable_thinking is false %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}";

    private const string Header = "<|start|>assistant";

    [TestCase("assistant", "<|channel|>final<|message|>A1|" + Header + "<|channel|>final<|message|>A2<|return|>")]
    [TestCase("final", "<|channel|>final<|message|>A1|" + Header + "<|channel|>final<|message|>A2<|return|>")]
    [TestCase("reasoning", "<|channel|>final<|message|>A1|<|channel|>analysis<|message|>R2<|end|>" + Header + "<|channel|>final<|message|>A2<|return|>")]
    [TestCase("completion", Header + "<|channel|>final<|message|>A2<|return|>")]
    public void Of_channels_the_final_one_is_trained_and_the_analysis_if_the_row_is_to_be_trained_with_reasoning(string trainOn, string trained)
    {
        var (rows, _) = Read(Channels, trainOn, "thinking");
        Assert.That(Rows.Text(rows), Does.Contain("A1<|end|>").And.Contain("analysis<|message|>R2<|end|>").And.Not.Contain("R1"));
        Assert.That(Rows.Trained(rows), Is.EqualTo(trained));
    }

    [TestCase("assistant", "A1<end>|R2\n</think>\n\nA2<end>")]
    [TestCase("reasoning", "A1<end>|R2\n</think>\n\nA2<end>")]
    [TestCase("final", "A1<end>|A2<end>")]
    [TestCase("completion", "R2\n</think>\n\nA2<end>")]
    public void Reasoning_between_tags_is_trained_with_its_answer_unless_the_answer_alone_is_wanted(string trainOn, string trained)
    {
        var (row, warnings) = Read(Tags, trainOn, "reasoning_content");
        Assert.That(Rows.Text(row), Is.EqualTo("<user>U1<end><assistant>A1<end><user>U2<end><assistant><think>\nR2\n</think>\n\nA2<end>"));
        Assert.That(Rows.Trained(row), Is.EqualTo(trained));
        Assert.That(warnings, Has.Some.Contains("leaves out the reasoning of earlier answers").And.None.Contains("model.chat_template"));
    }

    [Test]
    public void Reasoning_is_put_where_the_template_reads_it_whatever_the_row_calls_it(
        [Values("reasoning_content", "thinking", "reasoning", "part", "reasoning part", "tags")] string name, [Values(Channels, Tags)] string template)
    {
        var expected = Rows.Text(Read(template, "all", template == Channels ? "thinking" : "reasoning_content").Row);
        Assert.That(Rows.Text(Read(template, "all", name).Row), Is.EqualTo(expected));
    }

    [Test]
    public void A_template_that_reads_no_reasoning_gets_it_between_its_tags_and_one_that_knows_none_loses_it_with_a_warning()
    {
        const string Inline = "{% for m in messages %}<{{ m.role }}>{{ m.content if loop.last else m.content.split('</think>')[-1] | trim }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        var (row, _) = Read(Inline, "assistant", "thinking");
        Assert.That(Rows.Trained(row), Is.EqualTo("A1<end>|<think>\nR2\n</think>\n\nA2<end>"));
        Assert.That(Rows.Trained(Read(Inline, "final", "thinking").Row), Is.EqualTo("A1<end>|A2<end>"));

        var (plain, warnings) = Read(CharacterTokenizer.ChatMl, "assistant", "thinking");
        Assert.That(Rows.Trained(plain), Is.EqualTo("A1<|im_end|>|A2<|im_end|>"));
        Assert.That(warnings, Has.Some.Contains("does not write the reasoning of the last answer"));
    }

    [Test]
    public void Mistrals_parts_are_given_to_a_template_that_reads_parts()
    {
        const string Parts = "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}{% for block in m.content %}{% if block['type'] == 'thinking' %}[THINK]{{ block['thinking'] }}[/THINK]"
            + "{% else %}{{ block['text'] }}{% endif %}{% endfor %}{% endif %}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        Assert.That(Rows.Trained(Read(Parts, "assistant", "part").Row), Is.EqualTo("[THINK]R1[/THINK]A1</s>|[THINK]R2[/THINK]A2</s>"));
        Assert.That(Rows.Trained(Read(Parts, "final", "thinking").Row), Is.EqualTo("A1</s>|A2</s>"));
    }

    [Test]
    public void An_answer_without_reasoning_follows_the_prompt_that_says_so_and_else_there_is_a_warning()
    {
        var (open, warnings) = Read(Tags, "assistant", null);
        Assert.That(Rows.Trained(open), Is.EqualTo("A1<end>|\n</think>\n\nA2<end>"));
        Assert.That(warnings, Has.Some.Contains("some answers have no reasoning").And.Some.Contains("enable_thinking: false"));

        var (closed, quiet) = Read(ChatTemplateDefaults.Set(Tags, new JsonObject { ["enable_thinking"] = false }), "assistant", null);
        Assert.That(Rows.Trained(closed), Is.EqualTo("A1<end>|A2<end>"));
        Assert.That(quiet, Has.None.Contains("no reasoning"));
    }

    // Written by hand from the templates: what a person who serves the model expects of the last answer, with reasoning and without.
    [TestCase("Qwen-Qwen3-0.6B", true, "<think>\nR2\n</think>\n\nA2<|im_end|>")]
    [TestCase("Qwen-Qwen3-0.6B", false, "A2<|im_end|>")]
    [TestCase("Qwen3.5-4B", true, "R2\n</think>\n\nA2<|im_end|>")]
    [TestCase("Qwen3.5-4B", false, "A2<|im_end|>")]
    [TestCase("GLM-4.6", true, "\n<think>R2</think>\nA2")]
    [TestCase("GLM-4.6", false, "\nA2")]
    [TestCase("ByteDance-Seed-OSS", true, "<seed:think>R2</seed:think>\nA2<seed:eos>")]
    [TestCase("deepseek-ai-DeepSeek-V3.2", true, "R2</think>A2<｜end▁of▁sentence｜>")]
    [TestCase("MiniMax-M2", true, "R2\n</think>\n\nA2[e~[")]
    [TestCase("StepFun3.5-Flash", true, "R2\n</think>\nA2<|im_end|>")]
    [TestCase("Kimi-K2-Thinking", true, "<think>R2</think>A2<|im_end|>")]
    [TestCase("openbmb-MiniCPM5-1B", true, "R2\n</think>\n\nA2<|im_end|>")]
    [TestCase("NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", true, "R2\n</think>\nA2<|im_end|>")]
    [TestCase("mistralai-Ministral-3-14B-Reasoning-2512", true, "[THINK]R2[/THINK]A2")]
    [TestCase("LFM2.5-8B-A1B", true, "<think>R2</think>A2<|im_end|>\n")]
    [TestCase("tencent-Hy3", true, "R2</think:opensource>A2<｜hy_eos:opensource｜>")]
    [TestCase("Kimi-K3", true, "R2<|close|>think<|sep|><|open|>response<|sep|>A2<|close|>response<|sep|><|close|>message<|sep|><|end_of_msg|>")]
    [TestCase("upstage-Solar-Open-100B", true, "<|think|>R2<|end|><|begin|>assistant<|content|>A2<|end|>")]
    [TestCase("NVIDIA-Nemotron-Nano-v2", true, "R2\n</think>\n\nA2\n<SPECIAL_12>")]
    [TestCase("muse-glimmer", true, " to=self<|message|>R2<|eom|><|start|>assistant to=user<|message|>A2<|eot|>")]
    [TestCase("Apriel-1.6-15b-Thinker-fixed", true, "R2\n[BEGIN FINAL RESPONSE]\nA2\n<|end|>")]
    [TestCase("openai-gpt-oss-120b", true, "<|channel|>analysis<|message|>R2<|end|><|start|>assistant<|channel|>final<|message|>A2<|return|>")]
    public void Published_templates_train_the_last_answer_with_its_reasoning_or_after_the_prompt_that_asks_for_none(string name, bool reasons, string trained)
    {
        var text = File.ReadAllText(SharedFiles.Require("fixtures", "chat-templates", "llama.cpp-2026", name + ".jinja"));
        var template = ChatTemplateDefaults.Set(text, new JsonObject { ["enable_thinking"] = reasons });
        var (row, _) = Read(template, "reasoning", reasons ? "reasoning_content" : null);
        Assert.That(Rows.Trained(row), Does.EndWith(trained));
        Assert.That(Rows.Text(row)[..^trained.Length], Does.Not.Contain("R2"));
        if (reasons)
        {
            Assert.That(Rows.Trained(Read(template, "final", "reasoning_content").Row), Does.Contain("A2").And.Not.Contain("R2"));
        }
    }

    // Whatever marks they have. Some templates refuse such a chat, and some write no reasoning, or only that of a call.
    [Test]
    public void All_published_templates_that_write_reasoning_have_it_parted_from_the_answer()
    {
        var (parted, wrong) = (0, new List<string>());
        foreach (var name in SharedFiles.FindNames("*.jinja", "fixtures", "chat-templates", "llama.cpp-2026").DefaultIfEmpty("Qwen-Qwen3-0.6B.jinja"))
        {
            var text = ChatTemplateDefaults.Set(
                File.ReadAllText(SharedFiles.Require("fixtures", "chat-templates", "llama.cpp-2026", name)), new JsonObject { ["enable_thinking"] = true, ["reasoning_effort"] = "high", ["keep_past_thinking"] = false });
            if (Single(text, "reasoning") is not { } row || !Rows.Trained(row).Contains("R2", StringComparison.Ordinal))
            {
                continue;
            }

            parted++;
            var final = Rows.Trained(Single(text, "final")!);
            var tokenizer = new CharacterTokenizer(text);
            var prompt = new ChatRenderer(tokenizer).Render([Rows.Message("user", "U2")], null, addGenerationPrompt: true);
            var written = Rows.Text(row).StartsWith(prompt, StringComparison.Ordinal) ? Rows.Text(row)[prompt.Length..] : "the text does not begin with the prompt";
            var (reasoning, answer) = new AnswerReader(ReasoningFormat.Of(text), prompt).Read(tokenizer, tokenizer.Encode(written, addSpecialTokens: false));
            if (!final.Contains("A2", StringComparison.Ordinal) || final.Contains("R2", StringComparison.Ordinal) || reasoning.Trim() != "R2" || !answer.StartsWith("A2", StringComparison.Ordinal))
            {
                wrong.Add($"{name}: {written} -> {reasoning} | {answer}; trained: {final}");
            }
        }

        Assert.That(wrong, Is.Empty);
        Assert.That(parted, Is.GreaterThan(20));
    }

    // A chat of one answer; null where the template refuses it.
    private static TokenRow? Single(string template, string trainOn)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", Rows.Chat(Rows.Message("user", "U2"), Answer("R2", "A2", "reasoning_content")) + "\n");
        try
        {
            return Rows.Read(path, template, trainOn: trainOn).Train.Rows.Single();
        }
        catch (Exception e) when (e is ChatTemplateException or InvalidDataException)
        {
            return null;
        }
    }

    [Test]
    public void A_budget_of_no_thoughts_is_the_prompts_and_is_not_trained()
    {
        var text = File.ReadAllText(SharedFiles.Require("fixtures", "chat-templates", "llama.cpp-2026", "ByteDance-Seed-OSS.jinja"));
        var template = ChatTemplateDefaults.Set(text, new JsonObject { ["thinking_budget"] = 0 });
        Assert.That(Rows.Trained(Read(template, "assistant", null).Row), Does.EndWith("A2<seed:eos>").And.Not.Contain("budget"));
    }

    [Test]
    public void Reasoning_that_Gemma_writes_only_before_calls_is_told_to_be_lost_elsewhere()
    {
        var text = File.ReadAllText(SharedFiles.Require("fixtures", "chat-templates", "llama.cpp-2026", "google-gemma-4-31B-it.jinja"));
        Assert.That(Read(text, "assistant", "reasoning").Warnings, Has.Some.Contains("does not write the reasoning of the last answer"));
    }

    /// <summary>A chat of two answers, each with its reasoning under a name; or without any.</summary>
    private static (TokenRow Row, IReadOnlyCollection<string> Warnings) Read(string template, string trainOn, string? name)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", Rows.Chat(Rows.Message("user", "U1"), Answer("R1", "A1", name), Rows.Message("user", "U2"), Answer("R2", "A2", name)) + "\n");
        var data = Rows.Read(path, template, trainOn: trainOn);
        return (data.Train.Rows.Single(), [.. data.Warnings]);
    }

    private static JsonObject Answer(string reasoning, string answer, string? name)
    {
        var message = Rows.Message("assistant", name == "tags" ? $"<think>\n{reasoning}\n</think>\n\n{answer}" : answer);
        if (name is "part" or "reasoning part")
        {
            message["content"] = new JsonArray(
                name == "part" ? new JsonObject { ["type"] = "thinking", ["thinking"] = reasoning } : new JsonObject { ["type"] = "reasoning", ["text"] = reasoning },
                new JsonObject { ["type"] = "text", ["text"] = answer });
        }
        else if (name is not (null or "tags"))
        {
            message[name] = reasoning;
        }

        return message;
    }
}
