using System.Runtime.CompilerServices;
using System.Threading.Channels;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols;

/// <summary>Several answers of one request, generated together.</summary>
/// <param name="texts">What is answered, with which of its choices each is.</param>
internal sealed class AnswerRun(IReadOnlyList<(PreparedAnswer Prepared, int Choice)> texts)
{
    private const int EventsAhead = 256;

    /// <summary>Answers to prompts, several of each.</summary>
    internal static AnswerRun Of(IEnumerable<PreparedAnswer> prompts, int choices) => new([.. prompts.SelectMany(p => Enumerable.Range(0, choices).Select(i => (p, i)))]);

    /// <summary>The events of the answers as they come, each with the answer's index. What is refused at once fails before anything is awaited.</summary>
    internal IAsyncEnumerable<(int Index, AnswerEvent Event)> EventsAsync(CancellationToken stop) => texts.Count == 1 ? Single(stop) : Merged(stop);

    private async IAsyncEnumerable<(int Index, AnswerEvent Event)> Single([EnumeratorCancellation] CancellationToken stop)
    {
        await foreach (var happened in texts[0].Prepared.GenerateAsync(texts[0].Choice, stop).ConfigureAwait(false))
        {
            yield return (0, happened);
        }
    }

    private async IAsyncEnumerable<(int Index, AnswerEvent Event)> Merged([EnumeratorCancellation] CancellationToken stop)
    {
        using var all = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var events = Channel.CreateBounded<(int, AnswerEvent)>(EventsAhead);
        var pumps = Task.WhenAll(texts.Select((t, i) => Pump(t, i, events.Writer, all)).ToList());
        _ = pumps.ContinueWith(done => events.Writer.TryComplete(done.Exception?.InnerException), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        try
        {
            await foreach (var happened in events.Reader.ReadAllAsync(stop).ConfigureAwait(false))
            {
                yield return happened;
            }
        }
        finally
        {
            // One that fails, or a client that is gone, ends the others too.
            await all.CancelAsync().ConfigureAwait(false);
            await pumps.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private static async Task Pump((PreparedAnswer Prepared, int Choice) text, int index, ChannelWriter<(int, AnswerEvent)> events, CancellationTokenSource all)
    {
        try
        {
            await foreach (var happened in text.Prepared.GenerateAsync(text.Choice, all.Token).ConfigureAwait(false))
            {
                await events.WriteAsync((index, happened), all.Token).ConfigureAwait(false);
            }
        }
        catch (Exception failure)
        {
            _ = events.TryComplete(failure);
            throw;
        }
    }
}
