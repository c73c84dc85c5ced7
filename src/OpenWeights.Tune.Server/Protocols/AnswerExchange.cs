using Microsoft.AspNetCore.Http;
using OpenWeights.Tune.Answering;

namespace OpenWeights.Tune.Server.Protocols;

/// <summary>Gives the events of an answer to what writes it in a protocol's words: as a whole at the end, or as they come.</summary>
internal static class AnswerExchange
{
    /// <summary>Answers a request.</summary>
    /// <param name="context">The request.</param>
    /// <param name="run">Its answers.</param>
    /// <param name="limit">How long they may take.</param>
    /// <param name="writer">Writes them.</param>
    /// <param name="isStream">Whether they are written as they come.</param>
    internal static async Task AnswerAsync(HttpContext context, AnswerRun run, TimeSpan limit, IAnswerWriter writer, bool isStream)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted);
        stop.CancelAfter(limit);
        try
        {
            var events = run.EventsAsync(stop.Token).GetAsyncEnumerator(stop.Token);
            await using (events.ConfigureAwait(false))
            {
                await (isStream ? StreamAsync(context, events, writer) : WholeAsync(context, events, writer)).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (!context.RequestAborted.IsCancellationRequested)
        {
            await writer.FailAsync(context, new TimeoutException($"The answer took longer than this server allows ({limit.TotalSeconds:0} s; --timeout).")).ConfigureAwait(false);
        }
        catch (Exception failure) when (failure is not OperationCanceledException && context.Response.HasStarted)
        {
            await writer.FailAsync(context, failure).ConfigureAwait(false);
        }
    }

    private static async Task WholeAsync(HttpContext context, IAsyncEnumerator<(int Index, AnswerEvent Event)> events, IAnswerWriter writer)
    {
        while (await events.MoveNextAsync().ConfigureAwait(false))
        {
            writer.Collect(events.Current.Index, events.Current.Event);
        }

        await writer.WriteAsync(context).ConfigureAwait(false);
    }

    private static async Task StreamAsync(HttpContext context, IAsyncEnumerator<(int Index, AnswerEvent Event)> events, IAnswerWriter writer)
    {
        // What is refused at once is refused with its status; after that the stream has begun.
        var next = events.MoveNextAsync().AsTask();
        if (next.IsFaulted || next.IsCanceled)
        {
            _ = await next.ConfigureAwait(false);
        }

        var stream = EventStream.Begin(context);
        await writer.BeginAsync(stream).ConfigureAwait(false);
        while (await stream.NextAsync(next).ConfigureAwait(false))
        {
            await writer.WriteAsync(stream, events.Current.Index, events.Current.Event).ConfigureAwait(false);
            next = events.MoveNextAsync().AsTask();
        }

        await writer.EndAsync(stream).ConfigureAwait(false);
    }
}

/// <summary>Writes answers in a protocol's words.</summary>
internal interface IAnswerWriter
{
    /// <summary>Takes an event of an answer that is written as a whole.</summary>
    void Collect(int index, AnswerEvent happened);

    /// <summary>Writes what was collected.</summary>
    Task WriteAsync(HttpContext context);

    /// <summary>Writes the beginning of a stream.</summary>
    Task BeginAsync(EventStream stream);

    /// <summary>Writes an event to a stream.</summary>
    Task WriteAsync(EventStream stream, int index, AnswerEvent happened);

    /// <summary>Writes the end of a stream.</summary>
    Task EndAsync(EventStream stream);

    /// <summary>Writes a failure: as the answer, or into the stream that has begun.</summary>
    Task FailAsync(HttpContext context, Exception failure);
}
