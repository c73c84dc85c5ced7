using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Tests.Export;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Chats to rows: what the template writes is what is there, and what the assistant has to produce is what is trained.</summary>
public sealed class ChatRowTests
{
    // Marks itself what the assistant produces, tool calls too.
    private const string Marked =
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{% for c in m.tool_calls or [] %}CALL {{ c.function.name }} {{ c.function.arguments | tojson }};{% endfor %}"
        + "{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

    [Test]
    public void Tool_calls_are_trained_as_the_templates_own_generation_blocks_say()
    {
        using var folder = new TemporaryFolder();
        var call = """{"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Oslo\"}"}}]}""";
        var path = folder.Write("rows.jsonl", Rows.Chat(
            Rows.Message("user", "Rain?"), JsonNode.Parse(call)!, Rows.Message("tool", "no"), Rows.Message("assistant", "No rain.")) + "\n");
        var row = Rows.Read(path, Marked).Train.Rows.Single();
        Assert.That(Rows.Text(row), Is.EqualTo("<user>Rain?</s><assistant>CALL weather {\"city\": \"Oslo\"};</s><tool>no</s><assistant>No rain.</s>"));
        Assert.That(Rows.Trained(row), Is.EqualTo("CALL weather {\"city\": \"Oslo\"};</s>|No rain.</s>"));
    }

    [Test]
    public void Real_chats_with_tools_are_trained_from_where_each_prompt_ends_to_the_end_of_the_turn()
    {
        var template = File.ReadAllText(SharedFiles.Require("fixtures", "chat-templates", "llama.cpp", "Qwen-Qwen2.5-7B-Instruct.jinja"));
        var path = SharedFiles.Require("fixtures", "datasets", "glaive_toolcall_en_demo.json");
        var rows = Rows.Read(path, template, new DataSection { Train = [new DataSource { Path = path, Limit = 40 }], MaxLength = 100_000, Packing = false }).Train.Rows;
        Assert.That(rows, Has.Count.EqualTo(40));
        var calls = 0;
        foreach (var row in rows)
        {
            // Worked out from the text alone: in ChatML a turn of the assistant begins behind its header and ends with the end of turn.
            var (text, expected) = (Rows.Text(row), new List<string>());
            const string Header = "<|im_start|>assistant\n", End = "<|im_end|>";
            for (var at = text.IndexOf(Header, StringComparison.Ordinal); at >= 0; at = text.IndexOf(Header, at + 1, StringComparison.Ordinal))
            {
                var start = at + Header.Length;
                expected.Add(text[start..(text.IndexOf(End, start, StringComparison.Ordinal) + End.Length)]);
            }

            Assert.That(Rows.Trained(row), Is.EqualTo(string.Join('|', expected)), row.Source);
            calls += expected.Count(static e => e.Contains("<tool_call>", StringComparison.Ordinal));
        }

        Assert.That(calls, Is.GreaterThan(20));
    }

    [TestCase("Apertus-8B-Instruct.jinja", "A1<|assistant_end|>|A2<|assistant_end|>")]
    [TestCase("tencent-Hy3.jinja", "A1<｜hy_eos:opensource｜>|A2<｜hy_eos:opensource｜>")]
    [TestCase("Apriel-1.6-15b-Thinker-fixed.jinja", "A1\n<|end|>|A2\n<|end|>")]
    [TestCase("Qwen3-Coder.jinja", "A1<|im_end|>|A2<|im_end|>")]
    public void The_last_turn_of_a_chat_ends_as_the_others_do_also_where_the_template_writes_no_end_there(string template, string trained)
    {
        var text = File.ReadAllText(SharedFiles.Require("fixtures", "chat-templates", "llama.cpp-2026", template));
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", Rows.Chat(Rows.Message("user", "U1"), Rows.Message("assistant", "A1"), Rows.Message("user", "U2"), Rows.Message("assistant", "A2")) + "\n");
        var data = Rows.Read(path, text);
        Assert.That(Rows.Trained(data.Train.Rows.Single()), Is.EqualTo(trained));
        Assert.That(data.Warnings, Has.None.Contains("teach the model to stop"));
    }

    [TestCase("GLM-4.6.jinja", "A1<|user|>|A2<|user|>")]
    [TestCase("GLM-4.7-Flash.jinja", "</think>A1<|user|>|</think>A2<|user|>")]
    public void A_model_that_stops_at_the_next_turns_token_learns_to_write_it(string template, string trained)
    {
        var text = File.ReadAllText(SharedFiles.Require("fixtures", "chat-templates", "llama.cpp-2026", template));
        using var folder = new TemporaryFolder();
        SmallTokenizer.Write(folder.Root, addsBos: false, s => s["chat_template"] = text, "<|user|>", "<|observation|>", "<|assistant|>");
        var tokenizer = Tokenizer.Load(folder.Root);
        var ends = new[] { tokenizer.EosToken!.Value, tokenizer.TokenToId("<|user|>")!.Value, tokenizer.TokenToId("<|observation|>")!.Value };
        folder.Write("config.json", new JsonObject { ["model_type"] = "glm4", ["eos_token_id"] = new JsonArray([.. ends.Select(static e => (JsonNode)e)]) }.ToJsonString());
        var path = folder.Write("rows.jsonl", Rows.Chat(Rows.Message("user", "U1"), Rows.Message("assistant", "A1"), Rows.Message("user", "U2"), Rows.Message("assistant", "A2")) + "\n");
        var row = RunData.Read(Rows.Unpacked with { Train = [new DataSource { Path = path }] }, new RowTokenizer(folder.Root, "assistant"), tokenizer.VocabularySize, seed: 1).Train.Rows.Single();
        var stretches = string.Join('|', string.Concat(row.Labels.Select(l => l == TokenRow.Ignored ? "\0" : tokenizer.Decode([l], skipSpecialTokens: false))).Split('\0', StringSplitOptions.RemoveEmptyEntries));
        Assert.That(stretches.Replace("\n<think></think>\n", "", StringComparison.Ordinal).Replace("\n", "", StringComparison.Ordinal), Is.EqualTo(trained));
        Assert.That(row.Ids[^1], Is.EqualTo(ends[1]));
    }

    [Test]
    public void A_message_that_says_so_is_not_trained_and_the_others_are()
    {
        using var folder = new TemporaryFolder();
        foreach (var (key, value) in new (string, JsonNode)[] { ("train", false), ("loss_weight", 0), ("weight", 0) })
        {
            var off = Rows.Message("assistant", "wrong");
            off[key] = value.DeepClone();
            var row = Rows.Of(folder, Rows.Chat(Rows.Message("user", "a"), off, Rows.Message("user", "b"), Rows.Message("assistant", "right"))).Single();
            Assert.That(Rows.Trained(row), Is.EqualTo("right<|im_end|>"), key);
            Assert.That(Rows.Text(row), Does.Contain("wrong<|im_end|>").And.Not.Contain(key));
        }

        Assert.That(() => Rows.Of(folder, """{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": 0.5}]}"""),
            Throws.InstanceOf<InvalidDataException>().With.Message.Contains(":1: \"train\" of message 2 is 0.5"));
    }

    [Test]
    public void ShareGPT_gives_the_rows_of_messages()
    {
        using var folder = new TemporaryFolder();
        var rows = Rows.Of(
            folder,
            """{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}""",
            """{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}""",
            """{"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}], "system": "s"}""");
        Assert.That(rows.Select(static r => r.Ids), Is.All.EqualTo(rows[0].Ids));
        Assert.That(rows.Select(static r => r.Labels), Is.All.EqualTo(rows[0].Labels));
        Assert.That(Rows.Trained(rows[0]), Is.EqualTo("a<|im_end|>"));
    }

    [Test]
    public void Train_on_completion_is_the_last_turn_and_on_all_is_everything()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", Rows.Chat(Rows.Message("user", "a"), Rows.Message("assistant", "b"), Rows.Message("user", "c"), Rows.Message("assistant", "d")) + "\n");
        Assert.That(Rows.Trained(Rows.Read(path, trainOn: "assistant").Train.Rows[0]), Is.EqualTo("b<|im_end|>|d<|im_end|>"));
        Assert.That(Rows.Trained(Rows.Read(path, trainOn: "completion").Train.Rows[0]), Is.EqualTo("d<|im_end|>"));
        var all = Rows.Read(path, trainOn: "all").Train.Rows[0];
        Assert.That(all.Labels, Is.EqualTo(all.Ids));
    }

    [Test]
    public void A_turn_that_cannot_be_told_stops_the_run_with_what_to_do_and_the_other_ways_to_train_go_on()
    {
        const string Template = "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}<bot>{% else %}<{{ m.role }}>{% endif %}"
            + "{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", Rows.Chat(Rows.Message("user", "a"), Rows.Message("assistant", "b"), Rows.Message("user", "c"), Rows.Message("assistant", "d")) + "\n");
        Assert.That(() => Rows.Read(path, Template), Throws.InstanceOf<InvalidDataException>()
            .With.Message.StartsWith(path + ":1: the chat template: message 2 (assistant): ").And.Message.Contains("data.train_on: all").And.Message.Contains("data.train_on: completion"));
        Assert.That(Rows.Trained(Rows.Read(path, Template, trainOn: "completion").Train.Rows[0]), Is.EqualTo("d<end>"));
        var all = Rows.Read(path, Template, trainOn: "all").Train.Rows[0];
        Assert.That(all.Labels, Is.EqualTo(all.Ids));
    }

    [Test]
    public void Two_turns_of_one_role_are_for_the_template_to_take_or_to_refuse()
    {
        using var folder = new TemporaryFolder();
        var chat = Rows.Chat(Rows.Message("user", "one"), Rows.Message("user", "two"), Rows.Message("assistant", "three"), Rows.Message("assistant", "four"));
        var path = folder.Write("rows.jsonl", chat + "\n");
        var row = Rows.Read(path).Train.Rows.Single();
        Assert.That(Rows.Text(row), Is.EqualTo(string.Concat(new[] { ("user", "one"), ("user", "two"), ("assistant", "three"), ("assistant", "four") }.Select(static m => $"<|im_start|>{m.Item1}\n{m.Item2}<|im_end|>\n"))));
        Assert.That(Rows.Trained(row), Is.EqualTo("three<|im_end|>|four<|im_end|>"));
        const string Strict = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}";
        Assert.That(() => Rows.Read(path, Strict), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith(path + ":1: ").And.Message.Contains("roles must alternate"));
    }

    [TestCase("user", "no assistant message")]
    [TestCase("user,boss", "message 2 has the unknown role 'boss'")]
    [TestCase("", "\"messages\" is empty")]
    public void Roles_that_make_no_chat_are_told_with_file_and_line(string roles, string message)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", Rows.Chat([.. roles.Split(',', StringSplitOptions.RemoveEmptyEntries).Select(static r => Rows.Message(r, "x"))]) + "\n");
        Assert.That(() => Rows.Read(path), Throws.InstanceOf<InvalidDataException>().With.Message.StartsWith(path + ":1: ").And.Message.Contains(message));
    }
}
