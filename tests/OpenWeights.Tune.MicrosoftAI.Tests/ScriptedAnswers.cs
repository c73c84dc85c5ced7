using System.Runtime.CompilerServices;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.MicrosoftAI.Tests;

/// <summary>A client over answers that a test has written, one for each request, and the requests that came.</summary>
internal sealed class ScriptedAnswers(params AnswerPiece[][] answers)
{
    internal List<AnswerRequest> Requests { get; } = [];

    internal OpenWeightsChatClient Client() => new(Answer, "scripted");

    private async IAsyncEnumerable<AnswerEvent> Answer(AnswerRequest request, [EnumeratorCancellation] CancellationToken stop)
    {
        var pieces = answers[Requests.Count];
        Requests.Add(request);
        foreach (var piece in pieces)
        {
            await Task.Yield();
            stop.ThrowIfCancellationRequested();
            yield return new AnswerDelta(piece, []);
        }

        var reason = pieces.Any(static p => p is ToolCallPiece) ? FinishReason.ToolCalls : FinishReason.Stop;
        yield return new AnswerFinished(reason, new AnswerUsage(Prompt: 11, Completion: 5, Cached: 3, Reasoning: 2), new AnswerTimings(0, 0));
    }
}
