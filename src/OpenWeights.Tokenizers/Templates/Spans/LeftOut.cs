namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>Finds out whether a template leaves out what the assistant said.</summary>
internal static class LeftOut
{
    private const int LongestProbe = 24;

    /// <summary>
    /// Whether the text lacks the answer of a message or the name of a function that it calls. Reasoning is not looked for: templates drop
    /// it from earlier turns on purpose.
    /// </summary>
    public static bool IsAny(PromptRenderer prompts, TracedText text, IReadOnlyCollection<string> roles)
    {
        var written = new Dictionary<int, string>();
        foreach (var (start, end, message) in text.Content(0, text.Text.Length))
        {
            written[message] = written.GetValueOrDefault(message) + text.Text[start..end];
        }

        return Enumerable.Range(0, prompts.MessageCount)
            .Where(message => prompts.RoleOf(message) is { } role && roles.Contains(role))
            .Any(message => Wanted(prompts, message).Any(part => !written.GetValueOrDefault(message, string.Empty).Contains(part, StringComparison.OrdinalIgnoreCase)));
    }

    private static IEnumerable<string> Wanted(PromptRenderer prompts, int message) =>
        prompts.TextsOf(message).Select(Probe).Concat(prompts.CalledBy(message)).Where(part => part.Length > 0);

    /// <summary>The last word of an answer, if it is one that JSON writes as it is: templates trim answers and drop the reasoning before them.</summary>
    private static string Probe(string content)
    {
        var end = content.Length;
        while (end > 0 && !char.IsAsciiLetterOrDigit(content[end - 1]))
        {
            end--;
        }

        var start = end;
        while (start > 0 && end - start < LongestProbe && char.IsAsciiLetterOrDigit(content[start - 1]))
        {
            start--;
        }

        return content[start..end];
    }
}
