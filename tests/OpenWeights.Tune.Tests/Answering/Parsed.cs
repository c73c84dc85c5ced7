using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Answering;
using OpenWeights.Tune.Answering.ToolCalls;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Tests.Answering;

/// <summary>What a parser makes of an answer.</summary>
internal sealed record Parsed(string Reasoning, string Content, IReadOnlyList<(string Name, JsonNode? Arguments)> Calls, IReadOnlyList<string> Ids)
{
    /// <summary>Parses an answer in pieces of a size.</summary>
    internal static Parsed Of(IToolCallFormat? format, ReasoningFormat reasoning, string prompt, JsonNode? tools, string text, int size)
    {
        var parser = new AnswerParser(reasoning, format, prompt, tools);
        var pieces = text.Chunk(size).SelectMany(c => parser.Add(new string(c))).ToList();
        pieces.AddRange(parser.Finish());
        var calls = pieces.OfType<ToolCallPiece>().ToList();
        Assert.That(calls.Select(static c => c.Index), Is.EqualTo(Enumerable.Range(0, calls.Count)));
        return new Parsed(
            string.Concat(pieces.OfType<ReasoningPiece>().Select(static p => p.Text)),
            string.Concat(pieces.OfType<ContentPiece>().Select(static p => p.Text)),
            [.. calls.Select(static c => (c.Name!, JsonNode.Parse(c.Arguments)))],
            [.. calls.Select(static c => c.Id!)]);
    }

    /// <summary>Requires the same of an answer in pieces of every size.</summary>
    internal static Parsed Same(IToolCallFormat? format, ReasoningFormat reasoning, string prompt, JsonNode? tools, string text)
    {
        var whole = Of(format, reasoning, prompt, tools, text, Math.Max(text.Length, 1));
        for (var size = 1; size < text.Length; size++)
        {
            var parted = Of(format, reasoning, prompt, tools, text, size);
            Assert.That(parted.Show(), Is.EqualTo(whole.Show()), $"pieces of {size}");
        }

        return whole;
    }

    /// <summary>Its parts as one text.</summary>
    internal string Show() => $"{Reasoning}§{Content}§{string.Join(';', Calls.Select(static c => c.Name + c.Arguments?.ToJsonString()))}";
}
