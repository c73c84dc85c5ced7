namespace OpenWeights.Tokenizers.Templates.Spans;

/// <summary>What whoever trains on a template's texts should know of it.</summary>
internal static class SpanWarnings
{
    public const string NoPrompt =
        "the template writes a header before the assistant's text but no generation prompt, so the header is not trained and serving does "
        + "not send it; add one to the template: {% if add_generation_prompt %}...{% endif %}";

    public const string OtherPrompt =
        "some assistant turns do not follow exactly the prompt that serving would send: the template writes its generation prompt, earlier "
        + "turns or tools differently there";

    public const string NoEnd =
        "the template writes nothing that ends the assistant's turn behind its text, so training on it does not teach the model to stop";

    public const string NoLastEnd =
        "the template writes what ends the assistant's turn only where another message follows, so training on the last turn of a chat does "
        + "not teach the model to stop; let the template write it behind the last turn too";

    public const string LeftOut =
        "the template leaves out some assistant messages or parts of them (tool calls, text beside tool calls, text that is given as a list "
        + "of parts): what is trained there is not what the data says";
}
