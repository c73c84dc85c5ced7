using NUnit.Framework;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Data;

/// <summary>What a model writes, parted into reasoning and answer, in pieces of any size.</summary>
public sealed class AnswerReaderTests
{
    [TestCase("<user>Q<end><assistant><think>\n", "why\n</think>\n\nyes", "why\n", "yes", TestName = "The prompt begins the reasoning")]
    [TestCase("<user>Q<end><assistant>", "<think>\nwhy\n</think>\n\nyes", "\nwhy\n", "yes", TestName = "The model begins the reasoning")]
    [TestCase("<user>Q<end><assistant>", "\n<think>why</think>yes", "why", "yes", TestName = "A blank line comes before the reasoning")]
    [TestCase("<user>Q<end><assistant>", " yes, a < b", "", " yes, a < b", TestName = "There is no reasoning")]
    [TestCase("<user>Q<end><assistant>", "write <think>x</think> so", "", "write <think>x</think> so", TestName = "Tags in an answer are a part of it")]
    [TestCase("<user>Q<end><assistant>", "</think>yes", "", "yes", TestName = "An answer begins with the closing tag alone")]
    [TestCase("<user>Q<end><assistant><think>\n", "why </thi", "why </thi", "", TestName = "The reasoning is cut off in the closing tag")]
    [TestCase("<user>Q<end><assistant>", "yes <thi", "", "yes <thi", TestName = "The answer ends with the beginning of a tag")]
    public void Tags_part_reasoning_and_answer(string prompt, string written, string reasoning, string answer) =>
        Expect(ReasoningRowTests.Tags, prompt, written, reasoning, answer, isDone: false);

    [TestCase("<|channel|>final<|message|>yes<|return|>", "", "yes", true)]
    [TestCase("<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>", "why", "yes", true)]
    [TestCase("<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>yes<|end|><|start|>user<|message|>more", "why", "yes", true)]
    [TestCase("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>yes<|return|>", "", "I look.\n\nyes", true)]
    [TestCase("<|channel|>analysis<|message|>why<|end|><|start|>assistant to=functions.f<|channel|>commentary json<|message|>{}<|call|>", "why", "{}", true)]
    [TestCase("<|channel|>analysis<|message|>why", "why", "", false)]
    [TestCase("<|channel|>final<|message|>a <|chan b", "", "a <|chan b", false)]
    [TestCase("no channel at all", "", "no channel at all", false)]
    public void Channels_part_analysis_and_what_is_for_the_user(string written, string reasoning, string answer, bool isDone) =>
        Expect(ReasoningRowTests.Channels, "<|start|>user<|message|>Q<|end|><|start|>assistant", written, reasoning, answer, isDone);

    private static void Expect(string template, string prompt, string written, string reasoning, string answer, bool isDone)
    {
        for (var size = 1; size <= written.Length; size++)
        {
            var reader = new AnswerReader(ReasoningFormat.Of(template), prompt);
            var parts = written.Chunk(size).SelectMany(c => reader.Add(new string(c))).ToList();
            parts.AddRange(reader.Finish());
            Assert.That(string.Concat(parts.Where(static p => p.IsReasoning).Select(static p => p.Text)), Is.EqualTo(reasoning), $"{size} at once");
            Assert.That(string.Concat(parts.Where(static p => !p.IsReasoning).Select(static p => p.Text)), Is.EqualTo(answer), $"{size} at once");
            Assert.That(reader.IsDone, Is.EqualTo(isDone));
        }

        var tokenizer = new CharacterTokenizer(template);
        Assert.That(new AnswerReader(ReasoningFormat.Of(template), prompt).Read(tokenizer, tokenizer.Encode(written, addSpecialTokens: false)), Is.EqualTo((reasoning, answer)));
    }
}
