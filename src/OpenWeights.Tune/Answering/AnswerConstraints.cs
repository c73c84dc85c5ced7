using OpenWeights.Tune.Decoding.Engine;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Answering;

/// <summary>What limits the tokens of answers: their format, and the tools that they must call.</summary>
/// <param name="vocabularySize">Number of the model's logits.</param>
internal sealed class AnswerConstraints(int vocabularySize)
{
    /// <summary>What makes the constraint of each answer to a request; it gives null where nothing is limited.</summary>
    /// <exception cref="AnswerRefusedException">The format cannot be enforced; the message says why.</exception>
    internal Func<ITokenConstraint?> Of(ServedModel model, AnswerRequest request)
    {
        if (GrammarOf(request.Format) is not { } grammar)
        {
            return static () => null;
        }

        var vocabulary = TokenVocabulary.Of(model.Tokenizer, vocabularySize);
        return () => new GrammarConstraint(grammar, vocabulary, model.EndTokens);
    }

    private static Grammar? GrammarOf(AnswerFormat format)
    {
        try
        {
            return format.Kind switch
            {
                AnswerFormatKind.JsonObject => JsonGrammar.Object(),
                AnswerFormatKind.JsonSchema => JsonGrammar.Of(format.Schema),
                AnswerFormatKind.Grammar => GbnfGrammar.Parse(format.Grammar ?? ""),
                _ => null,
            };
        }
        catch (GrammarException e)
        {
            throw new AnswerRefusedException(RefusalKind.Invalid, e.Message, format.Kind == AnswerFormatKind.Grammar ? "grammar" : "response_format");
        }
    }
}
