using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Channels;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;

namespace OpenWeights.Tune;

/// <content>Answers.</content>
public sealed partial class LanguageModel
{
    /// <summary>Answers a question, by the model's chat template. What the model reasons before its answer is left out.</summary>
    /// <param name="question">What the user says.</param>
    /// <param name="options">How the answer is generated; null for the likeliest tokens, 128 at most. Its end tokens are added to the model's own.</param>
    /// <param name="stop">Cancels between two tokens.</param>
    /// <exception cref="InvalidDataException">The model has no chat template, or no room for an answer.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public string Generate(string question, GenerationOptions? options = null, CancellationToken stop = default) => Generate([ChatTurn.User(question)], options, stop);

    /// <summary>Answers a chat, by the model's chat template. What the model reasons before its answer is left out.</summary>
    /// <param name="chat">The messages so far.</param>
    /// <param name="options">How the answer is generated; null for the likeliest tokens, 128 at most. Its end tokens are added to the model's own.</param>
    /// <param name="stop">Cancels between two tokens.</param>
    /// <exception cref="InvalidDataException">The model has no chat template, or no room for an answer.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public string Generate(IEnumerable<ChatTurn> chat, GenerationOptions? options = null, CancellationToken stop = default)
    {
        using var use = Take(stop);
        return Answer(PromptOf(chat), options, stop);
    }

    /// <summary>Continues a text, without a chat template.</summary>
    /// <param name="text">The text.</param>
    /// <param name="options">How it goes on; null for the likeliest tokens, 128 at most. Its end tokens are added to the model's own.</param>
    /// <param name="stop">Cancels between two tokens.</param>
    /// <returns>What follows the text.</returns>
    /// <exception cref="InvalidDataException">The text is empty, or the model has no room after it.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public string Continue(string text, GenerationOptions? options = null, CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(text);
        using var use = Take(stop);
        return Answer(new Prompt(Tokenizer.EncodePrompt(text), null), options, stop);
    }

    /// <summary>Answers a chat piece by piece, as the model generates it. What the model reasons before its answer is left out.</summary>
    /// <param name="chat">The messages so far.</param>
    /// <param name="options">How the answer is generated; null for the likeliest tokens, 128 at most. Its end tokens are added to the model's own.</param>
    /// <param name="stop">Cancels between two tokens.</param>
    /// <returns>The pieces of the answer. One who stops reading ends the generation.</returns>
    /// <exception cref="InvalidDataException">The model has no chat template, or no room for an answer.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled.</exception>
    public async IAsyncEnumerable<string> GenerateAsync(IEnumerable<ChatTurn> chat, GenerationOptions? options = null, [EnumeratorCancellation] CancellationToken stop = default)
    {
        ArgumentNullException.ThrowIfNull(chat);
        var turns = chat.ToList();
        using var left = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var pieces = Channel.CreateUnbounded<string>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
        var work = Task.Factory.StartNew(() => Write(turns, options, pieces.Writer, left.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        try
        {
            await foreach (var piece in pieces.Reader.ReadAllAsync(CancellationToken.None).ConfigureAwait(false))
            {
                yield return piece;
            }
        }
        finally
        {
            await left.CancelAsync().ConfigureAwait(false);
            await work.ConfigureAwait(false);
        }
    }

    // What goes wrong is the reader's to see.
    private void Write(IReadOnlyList<ChatTurn> chat, GenerationOptions? options, ChannelWriter<string> pieces, CancellationToken stop)
    {
        Exception? failure = null;
        try
        {
            using var use = Take(stop);
            Answer(PromptOf(chat), options, piece => pieces.TryWrite(piece), stop);
        }
        catch (Exception e)
        {
            failure = e;
        }

        pieces.Complete(failure);
    }

    private Prompt PromptOf(IEnumerable<ChatTurn> chat)
    {
        var tokenizer = Tokenizer;
        if (tokenizer.ChatTemplateText is null)
        {
            throw new InvalidDataException($"{_path} has no chat template, which messages need; use Continue to continue a text.");
        }

        var renderer = new ChatRenderer(tokenizer);
        var text = renderer.Render(ChatTurn.Messages(chat), tools: null, addGenerationPrompt: true);
        return new Prompt(tokenizer.Encode(text, addSpecialTokens: false), new AnswerReader(renderer.Reasoning, text));
    }

    private string Answer(Prompt prompt, GenerationOptions? options, CancellationToken stop)
    {
        var text = new StringBuilder();
        Answer(prompt, options, piece => text.Append(piece), stop);
        return text.ToString();
    }

    private void Answer(Prompt prompt, GenerationOptions? options, Action<string> told, CancellationToken stop)
    {
        var settings = options ?? new GenerationOptions();
        settings = settings with { EndTokens = [.. settings.EndTokens, .. EndTokens.Of(_loaded.Folder, Tokenizer)], MaxPositions = settings.MaxPositions ?? _settings.MaxPositions };
        var answer = new GeneratedAnswer(Tokenizer, prompt.Reader);
        bool Add(int token)
        {
            Tell(answer.Add(token));
            return !answer.IsDone;
        }

        void Tell(string piece)
        {
            if (piece.Length > 0)
            {
                told(piece);
            }
        }

        _ = new TextGenerator(_loaded.Model, settings).Continue([prompt.Tokens], (_, token) => Add(token), stop: stop);
        Tell(answer.Finish());
    }

    private sealed record Prompt(int[] Tokens, AnswerReader? Reader);
}
