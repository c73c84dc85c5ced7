namespace OpenWeights.Tune.Answering;

/// <summary>A piece of an answer as it is generated.</summary>
internal abstract record AnswerPiece;

/// <summary>Text of the answer.</summary>
/// <param name="Text">The text.</param>
internal sealed record ContentPiece(string Text) : AnswerPiece;

/// <summary>Text that the model reasons before it answers.</summary>
/// <param name="Text">The text.</param>
internal sealed record ReasoningPiece(string Text) : AnswerPiece;

/// <summary>A call of a tool, or more of its arguments.</summary>
/// <param name="Index">Which call of the answer it is, counted from 0.</param>
/// <param name="Id">Identifier of the call; null for more arguments of a call that was begun.</param>
/// <param name="Name">Name of the tool; null for more arguments of a call that was begun.</param>
/// <param name="Arguments">A piece of the arguments' JSON text; pieces of one call are put together.</param>
internal sealed record ToolCallPiece(int Index, string? Id, string? Name, string Arguments) : AnswerPiece;
