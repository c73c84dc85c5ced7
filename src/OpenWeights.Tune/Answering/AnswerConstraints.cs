using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering;

/// <summary>What limits the tokens of answers: their format, and the tools that they must call.</summary>
/// <param name="vocabularySize">Number of the model's logits.</param>
internal sealed class AnswerConstraints(int vocabularySize)
{
    /// <summary>What makes the constraint of each answer to a request; it gives null where nothing is limited.</summary>
    /// <param name="model">The model.</param>
    /// <param name="request">The request.</param>
    /// <param name="prompt">The prompt; null for tokens.</param>
    /// <exception cref="AnswerRefusedException">The format cannot be enforced; the message says why.</exception>
    internal Func<ITokenConstraint?> Of(ServedModel model, AnswerRequest request, string? prompt)
    {
        var isCall = request is { Messages: not null, ToolChoice.Kind: ToolChoiceKind.Required };
        try
        {
            if ((isCall ? Calls(model, request, prompt!) : Content(model, request, prompt ?? "")) is not { } grammar)
            {
                return static () => null;
            }

            var vocabulary = TokenVocabulary.Of(model.Tokenizer, vocabularySize);
            return () => new GrammarConstraint(grammar, vocabulary, model.EndTokens);
        }
        catch (GrammarException e)
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, e.Message, isCall ? "tools" : request.Format.Kind == AnswerFormatKind.Grammar ? "grammar" : "response_format");
        }
    }

    private static Grammar Calls(ServedModel model, AnswerRequest request, string prompt) => AnswerGrammar.OfCalls(Calls(model, request), model.Renderer!.Reasoning, prompt);

    private static Grammar Calls(ServedModel model, AnswerRequest request) => ToolCallGrammar.Of(model.CallFormat, request.Tools, request.ToolChoice.Name, !request.CallsOnce);

    private static Grammar? Content(ServedModel model, AnswerRequest request, string prompt)
    {
        var content = request.Format.Kind switch
        {
            AnswerFormatKind.JsonObject => JsonGrammar.Object(),
            AnswerFormatKind.JsonSchema => JsonGrammar.Of(request.Format.Schema),
            AnswerFormatKind.Grammar => GbnfGrammar.Parse(request.Format.Grammar ?? ""),
            _ => null,
        };
        return content is null ? null
            : request is { Messages: not null, Tools.Count: > 0, ToolChoice.Kind: ToolChoiceKind.Auto } ? AnswerGrammar.OfEither(content, Calls(model, request), model.Renderer!.Reasoning, prompt)
            : AnswerGrammar.OfContent(content, request.Messages is null ? null : model.Renderer?.Reasoning, prompt);
    }
}
