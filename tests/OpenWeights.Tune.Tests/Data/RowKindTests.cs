using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Testing;
using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>Whatever a row says is trained on, or told: histories, systems, pictures, and turns in any order.</summary>
public sealed class RowKindTests
{
    private const string Turn = "<|im_start|>";
    private static readonly string[] s_pictures =
    [
        """{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "images": ["a.png"]}""",
        """{"conversations": [{"from": "human", "value": "q", "image": "a.png"}, {"from": "gpt", "value": "a"}]}""",
        """{"messages": [{"role": "user", "content": [{"type": "image", "url": "a.png"}, {"type": "text", "text": "q"}]}, {"role": "assistant", "content": "a"}]}""",
        """{"instruction": "q", "output": "a", "image": {"bytes": "iVBO", "path": null}}""",
        """{"prompt": "q", "completion": "a", "videos": ["a.mp4"]}""",
        """{"text": "q a", "audio": "a.wav"}""",
        """{"prompt": "q", "chosen": "a", "rejected": "b", "images": ["a.png"]}""",
        """{"input_ids": [65, 66], "pixel_values": [0.5]}""",
    ];

    private static readonly string[] s_noPictures =
    [
        """{"prompt": "q", "completion": "a", "images": []}""",
        """{"prompt": "q", "completion": "a", "image": null, "audio": ""}""",
        """{"prompt": "q", "completion": "a", "image": {"bytes": null, "path": null}}""",
    ];

    private static readonly string[] s_orders =
    [
        "system,assistant,user,assistant", "assistant,user,assistant", "user,assistant,system,user,assistant", "user,tool,assistant", "user,user,assistant,assistant", "system,system,user,assistant",
    ];

    [TestCase("rows.jsonl", "{\"prompt\": \"a\", \"completion\": null}\n", "\"completion\" is null; fill it in, or remove the row.")]
    [TestCase("rows.jsonl", "{\"messages\": \"hello\"}\n", "\"messages\" must be a list of messages")]
    [TestCase("rows.jsonl", "{'prompt': 'a', 'completion': 'b'}\n", "quoted with \", not '")]
    [TestCase("rows.jsonl", "{\"prompt\": \"a \", \"completion\": \"b\"},\n{\"prompt\": \"a \", \"completion\": \"b\"}\n", "Remove the comma at the end")]
    [TestCase("rows.jsonl", "{\n \"prompt\": \"a\",\n \"completion\": \"b\"\n}\n", "must be complete on its line")]
    [TestCase("rows.xlsx", "PK\u0003\u0004", "this is a workbook of a spreadsheet program; save its sheet as CSV")]
    [TestCase("rows.bin", "PK\u0003\u0004", "this is not a data file")]
    public void Slips_of_writing_rows_are_told_with_what_to_do(string name, string text, string told)
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => Rows.Read(folder.Write(name, text), template: null), Throws.InstanceOf<InvalidDataException>().With.Message.Contains(told));
    }

    [Test]
    public void Roles_may_be_written_with_capitals()
    {
        using var folder = new TemporaryFolder();
        var rows = Rows.Of(folder, """{"messages": [{"role": "User", "content": "q"}, {"role": "Assistant", "content": "a"}]}""");
        Assert.That(Rows.Text(rows[0]), Is.EqualTo("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"));
    }

    [TestCaseSource(nameof(s_pictures))]
    public void A_row_with_a_picture_is_refused_whatever_its_format(string row)
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => Rows.Of(folder, row), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("rows.jsonl:1: ").And.Message.Contains("only text is supported"));
    }

    [TestCaseSource(nameof(s_noPictures))]
    public void An_empty_field_for_pictures_is_none(string row)
    {
        using var folder = new TemporaryFolder();
        Assert.That(Rows.Trained(Rows.Of(folder, row).Single()), Is.EqualTo("a" + CharacterTokenizer.End));
    }

    [Test]
    public void A_picture_is_seen_although_other_fields_are_named()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", """{"ask": "q", "reply": "a", "images": ["a.png"]}""" + "\n");
        var section = Rows.Unpacked with { Train = [new DataSource { Path = path, Fields = new Dictionary<string, string> { ["prompt"] = "ask", ["completion"] = "reply" } }] };
        Assert.That(() => Rows.Read(path, section: section), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("\"images\""));
    }

    [TestCase("""[["first?", "one"], ["second?", "two"]]""")]
    [TestCase("\"[[\\\"first?\\\", \\\"one\\\"], [\\\"second?\\\", \\\"two\\\"]]\"")]
    public void The_turns_of_a_history_come_before_the_last_question_and_are_trained(string history)
    {
        using var folder = new TemporaryFolder();
        var row = Rows.Of(folder, $$"""{"instruction": "and now?", "input": "", "output": "seven", "system": "Be brief.", "history": {{history}}}""").Single();
        Assert.That(Rows.Text(row), Does.StartWith($"{Turn}system\nBe brief.").And.Contains("user\nfirst?<|im_end|>\n<|im_start|>assistant\none").And.EndsWith("assistant\nseven<|im_end|>\n"));
        Assert.That(Rows.Trained(row), Is.EqualTo("one<|im_end|>|two<|im_end|>|seven<|im_end|>"));
    }

    [TestCase("""{"instruction": "q", "output": "a", "history": [["x", "y"]]}""", null)]
    [TestCase("""{"prompt": "q", "completion": "a", "history": [["x", "y"]]}""", CharacterTokenizer.ChatMl)]
    [TestCase("""{"instruction": "q", "output": "a", "history": ["x", "y"]}""", CharacterTokenizer.ChatMl)]
    [TestCase("""{"instruction": "q", "output": "a", "history": {"x": "y"}}""", CharacterTokenizer.ChatMl)]
    public void A_history_that_cannot_be_written_is_refused(string row, string? template)
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.jsonl", row + "\n");
        Assert.That(() => Rows.Read(path, template), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("history"));
    }

    [Test]
    public void A_history_stands_before_both_answers_of_a_preference()
    {
        using var folder = new TemporaryFolder();
        var rows = Rows.Of(folder, """{"instruction": "q", "chosen": "good", "rejected": "bad", "history": [["x", "y"]]}""");
        Assert.That(rows.Select(Rows.Text), Is.All.Contains("user\nx<|im_end|>\n<|im_start|>assistant\ny<|im_end|>\n<|im_start|>user\nq"));
    }

    [TestCase("""{"system": "Be brief.", "prompt": "Hi ", "completion": "Yo"}""", CharacterTokenizer.ChatMl, "Be brief.\n\nHi Yo")]
    [TestCase("""{"system": "Be brief.", "instruction": "Say hi", "output": "Yo"}""", null, "Be brief.\n\nBelow is an instruction")]
    [TestCase("""{"system": "Be brief.", "instruction": "Say hi", "output": "Yo"}""", CharacterTokenizer.ChatMl, "<|im_start|>system\nBe brief.")]
    [TestCase("""{"system": "Be brief.", "prompt": "Hi ", "chosen": "Yo", "rejected": "No"}""", null, "Be brief.\n\nHi Yo")]
    [TestCase("""{"system": "Be brief.", "instruction": "Say hi", "chosen": "Yo", "rejected": "No"}""", null, "Be brief.\n\nBelow is an instruction")]
    [TestCase("""{"system": "  ", "prompt": "Hi ", "completion": "Yo"}""", null, "Hi Yo")]
    public void A_system_text_comes_first_and_is_not_trained(string row, string? template, string start)
    {
        using var folder = new TemporaryFolder();
        var read = Rows.Read(folder.Write("rows.jsonl", row + "\n"), template).Train.Rows[0];
        Assert.That(Rows.Text(read), Does.StartWith(start));
        Assert.That(Rows.Trained(read), Does.StartWith("Yo").And.Not.Contains("brief"));
    }

    [TestCase("""{"system": "Be brief.", "text": "Hi"}""")]
    [TestCase("""{"system": ["Be brief."], "prompt": "Hi ", "completion": "Yo"}""")]
    public void A_system_that_cannot_be_read_is_told(string row)
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => Rows.Of(folder, row), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("\"system\""));
    }

    [TestCaseSource(nameof(s_orders))]
    public void Turns_are_written_in_the_order_that_they_have(string roles)
    {
        using var folder = new TemporaryFolder();
        var messages = roles.Split(',').Select(static (r, i) => Rows.Message(r, $"text {i}")).ToArray<JsonNode>();
        var row = Rows.Of(folder, Rows.Chat(messages)).Single();
        Assert.That(Rows.Text(row), Is.EqualTo(string.Concat(roles.Split(',').Select(static (r, i) => $"<|im_start|>{r}\ntext {i}<|im_end|>\n"))));
        Assert.That(Rows.Trained(row), Is.EqualTo(string.Join('|', roles.Split(',').Select(static (r, i) => (r, i)).Where(static t => t.r == "assistant").Select(static t => $"text {t.i}<|im_end|>"))));
    }

    [Test]
    public void A_message_that_the_template_passes_over_is_told()
    {
        using var folder = new TemporaryFolder();
        const string OnlyTurns = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        var path = folder.Write("rows.jsonl", Rows.Chat(Rows.Message("system", "Be brief."), Rows.Message("user", "q"), Rows.Message("assistant", "a")) + "\n");
        Assert.That(() => Rows.Read(path, OnlyTurns), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("message 1 (system)").And.Message.Contains("lost"));
    }

    [TestCase("""{"prompt": [{"role": "user", "content": "a"}], "completion": "x"}""", "\"completion\" must be one too")]
    [TestCase("""{"prompt": "a", "completion": [{"role": "assistant", "content": "x"}]}""", "\"prompt\" must be one too")]
    [TestCase("""{"prompt": "a \ud83d b", "completion": "x"}""", "an unpaired surrogate")]
    [TestCase("""{"version": "1", "data": [{"prompt": "q", "completion": "a"}]}""", "under the key \"data\"")]
    public void A_shape_that_is_no_row_is_told_as_what_it_is(string row, string message)
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => Rows.Of(folder, row), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("rows.jsonl:1: ").And.Message.Contains(message));
    }

    [TestCase("rows.jsonl", "[{\"prompt\": \"q\", \"completion\": \"a\"}]")]
    [TestCase("rows.jsonl", "[\n  {\"prompt\": \"q\",\n   \"completion\": \"a\"}\n]\n")]
    [TestCase("rows.jsonl", "{\"prompt\": \"q\", \"completion\": \"a\", \"score\": NaN, \"least\": -Infinity, \"name\": \"NaN \\\" Infinity\"}")]
    [TestCase("rows.json", "{\n  \"prompt\": \"q\",\n  \"completion\": \"a\"\n}\n")]
    public void What_Python_writes_is_read(string name, string text)
    {
        using var folder = new TemporaryFolder();
        Assert.That(Rows.Text(Rows.Read(folder.Write(name, text)).Train.Rows.Single()), Is.EqualTo("qa" + CharacterTokenizer.End));
    }

    [Test]
    public void Rows_under_a_key_of_an_object_over_several_lines_are_told()
    {
        using var folder = new TemporaryFolder();
        var path = folder.Write("rows.json", "{\n  \"version\": \"1\",\n  \"data\": [\n    {\"prompt\": \"q\", \"completion\": \"a\"}\n  ]\n}\n");
        Assert.That(() => Rows.Read(path), Throws.InstanceOf<InvalidDataException>().With.Message.Contains("under the key \"data\""));
    }
}
