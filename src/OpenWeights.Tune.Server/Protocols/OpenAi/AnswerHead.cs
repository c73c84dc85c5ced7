namespace OpenWeights.Tune.Server.Protocols.OpenAi;

/// <summary>What all JSON of an answer begins with.</summary>
/// <param name="Id">The answer's identifier.</param>
/// <param name="Created">When it was asked for, in Unix seconds.</param>
/// <param name="Model">The model's name.</param>
/// <param name="Fingerprint">The server's version.</param>
/// <param name="IsStream">Whether it is a chunk.</param>
internal sealed record AnswerHead(string Id, long Created, string Model, string Fingerprint, bool IsStream)
{
    internal static AnswerHead New(string prefix, string model, bool isStream) =>
        new($"{prefix}-{Guid.NewGuid():N}", DateTimeOffset.UtcNow.ToUnixTimeSeconds(), model, ServerVersion.Fingerprint, isStream);

    internal ChatAnswer Chat(IReadOnlyList<ChatChoice> choices) => new(choices, Created, Id, Model, Fingerprint, IsStream ? "chat.completion.chunk" : "chat.completion");

    internal CompletionAnswer Completion(IReadOnlyList<CompletionChoice> choices) => new(choices, Created, Model, Fingerprint, "text_completion", Id);
}
