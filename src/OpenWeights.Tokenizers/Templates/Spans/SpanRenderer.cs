namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>Renders a conversation and attributes its characters to messages.</summary>
internal static class SpanRenderer
{
    public static RenderedChat Render(
        ChatTemplate template, PromptRenderer prompts, ChatTemplateInput input, IReadOnlyCollection<string> assistantRoles, bool lastTurnAlone)
    {
        var text = new TracedText(prompts.Conversation(withPrompt: false, isTraced: true));
        List<ChatSpan> assistant;
        List<string> warnings = [];
        string? missingEnd = null;
        if (template.HasGenerationBlocks)
        {
            assistant = GenerationSpans(text);
        }
        else
        {
            var finder = new AssistantSpanFinder(prompts, text, Token(input, "bos_token"), [Token(input, "eos_token"), .. input.EndTokens]);
            assistant = finder.Find(assistantRoles, lastTurnAlone);
            warnings.AddRange(finder.Warnings);
            missingEnd = finder.MissingEnd;
        }

        if (LeftOut.IsAny(prompts, text, assistantRoles))
        {
            warnings.Add(SpanWarnings.LeftOut);
        }

        if (!input.AddGenerationPrompt)
        {
            return new RenderedChat(text.Text, MessageSpans(text), assistant, warnings, missingEnd);
        }

        // The spans are those of the finished conversation; the prompt after it is nobody's.
        var prompted = new TracedText(prompts.Conversation(withPrompt: true, isTraced: true));
        var last = assistant.Count == 0 ? 0 : assistant[^1].End;
        return prompted.Text.AsSpan().StartsWith(text.Text.AsSpan(0, last))
            ? new RenderedChat(prompted.Text, MessageSpans(prompted), assistant, warnings)
            : throw RegionFinder.Refusal("the template writes the conversation differently before a generation prompt");
    }

    private static string Token(ChatTemplateInput input, string name) => input.SpecialTokens.GetValueOrDefault(name) ?? string.Empty;

    /// <summary>The stretches that generation blocks wrote, cut where the message changes.</summary>
    private static List<ChatSpan> GenerationSpans(TracedText text)
    {
        var spans = new List<ChatSpan>();
        var end = -1;
        foreach (var (from, to, mark) in text.Marks(0, text.Text.Length))
        {
            if (!mark.Generated)
            {
                continue;
            }

            var turn = mark.Turn != 0 ? mark.Turn : mark.Owner;
            var message = turn == 0 ? -1 : text.MembersOf(turn)[0];
            if (spans.Count > 0 && end == from && (message < 0 || spans[^1].MessageIndex == message))
            {
                spans[^1] = spans[^1] with { Length = to - spans[^1].Start };
            }
            else
            {
                spans.Add(new ChatSpan(message, from, to - from));
            }

            end = to;
        }

        return spans;
    }

    /// <summary>What each message's turn wrote; a merged turn parts where the next message's text begins.</summary>
    private static List<ChatSpan> MessageSpans(TracedText text)
    {
        var spans = new List<ChatSpan>();
        foreach (var segment in text.Segments)
        {
            if (segment.Turn == 0)
            {
                continue;
            }

            var members = text.MembersOf(segment.Turn);
            var (message, start) = (members[0], segment.Start);
            foreach (var part in text.Content(segment.Start, segment.End))
            {
                if (part.Message != message && members.Contains(part.Message))
                {
                    Add(message, start, part.Start);
                    (message, start) = (part.Message, part.Start);
                }
            }

            Add(message, start, segment.End);
        }

        return spans;

        void Add(int message, int start, int end)
        {
            if (end > start)
            {
                spans.Add(new ChatSpan(message, start, end - start));
            }
        }
    }
}

/// <summary>Warnings about training on texts rendered by a template.</summary>
internal static class SpanWarnings
{
    public const string NoPrompt =
        "the template writes a header before the assistant's text but no generation prompt, so the header is not trained and serving does "
        + "not send it; add one to the template: {% if add_generation_prompt %}...{% endif %}";

    public const string OtherPrompt =
        "some assistant turns do not follow exactly the prompt that serving would send: the template writes its generation prompt, earlier "
        + "turns or tools differently there";

    public const string NoEnd =
        "the template writes nothing that ends the assistant's turn after its text, so training on it does not teach the model to stop";

    public const string NoLastEnd =
        "the template writes what ends the assistant's turn only where another message follows, so training on the last turn of a chat does "
        + "not teach the model to stop; let the template write it after the last turn too";

    public const string LeftOut =
        "the template leaves out some assistant messages or parts of them (tool calls, text beside tool calls, text that is given as a list "
        + "of parts): what is trained there is not what the data says";
}
