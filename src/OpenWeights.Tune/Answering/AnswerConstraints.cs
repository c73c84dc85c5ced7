using OpenWeights.Tune.Decoding.Engine;

namespace OpenWeights.Tune.Answering;

/// <summary>What limits the tokens of answers: their format, and the tools that they must call.</summary>
internal sealed class AnswerConstraints
{
    /// <summary>What makes the constraint of each answer to a request.</summary>
    /// <exception cref="AnswerRefusedException">The format cannot be enforced; the message says why.</exception>
    internal Func<ITokenConstraint?> Of(ServedModel model, AnswerRequest request) => request.Format.Kind == AnswerFormatKind.Free
        ? static () => null
        : throw new AnswerRefusedException(RefusalKind.Invalid, "this format of answers is not supported.", "response_format");
}
