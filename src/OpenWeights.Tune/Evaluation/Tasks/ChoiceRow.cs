using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Evaluation.Tasks;

/// <summary>A prompt with one of its choices, whose tokens are the targets.</summary>
/// <param name="Row">The tokens.</param>
/// <param name="IsCut">Whether tokens were left out from the start.</param>
internal sealed record ChoiceRow(TokenRow Row, bool IsCut)
{
    /// <summary>
    /// Encodes both as EleutherAI's harness does: white space at the end of the prompt belongs to the choice, and the choice's tokens are those of the
    /// whole text after as many as the prompt alone has.
    /// </summary>
    /// <param name="tokenizer">The tokenizer.</param>
    /// <param name="prompt">The prompt.</param>
    /// <param name="choice">The choice.</param>
    /// <param name="isRendered">Whether the prompt is from a chat template, which has the special tokens.</param>
    /// <param name="room">The model's context length, in tokens.</param>
    /// <param name="place">Position of the question, for messages.</param>
    /// <exception cref="InvalidDataException">The choice has no tokens.</exception>
    internal static ChoiceRow Of(ITokenizer tokenizer, string prompt, string choice, bool isRendered, int room, string place)
    {
        var end = prompt.TrimEnd().Length;
        var (context, all) = (isRendered ? prompt : prompt[..end], prompt + choice);
        int[] before = context.Length == 0 ? [] : Encode(tokenizer, context, isRendered);
        var whole = Encode(tokenizer, all, isRendered);
        if (whole.Length <= before.Length)
        {
            throw new InvalidDataException($"{place}: the choice '{choice}' has no tokens of its own.");
        }

        if (before.Length == 0)
        {
            // Something must predict the first token.
            var start = tokenizer.SpecialTokens.GetValueOrDefault("bos_token") is { Length: > 0 } bos ? tokenizer.Encode(bos, addSpecialTokens: false) : tokenizer.EosToken is { } eos ? [eos] : [];
            (before, whole) = start.Length == 0 ? throw new InvalidDataException($"{place}: the prompt is empty, and the tokenizer has neither a BOS nor an EOS token to predict a choice from.")
                : whole[0] == start[0] && whole.Length > 1 ? (start, whole)
                : (start, [.. start, .. whole]);
        }

        var cut = Math.Max(0, whole.Length - room);
        int[] ids = whole[cut..];
        int[] labels = [.. ids.Select((id, i) => i + cut < before.Length ? TokenRow.Ignored : id)];
        return new ChoiceRow(new TokenRow(ids, labels, place), cut > 0);
    }

    /// <summary>The tokens of a prompt.</summary>
    internal static int[] Encode(ITokenizer tokenizer, string text, bool isRendered) => isRendered ? tokenizer.Encode(text, addSpecialTokens: false) : tokenizer.EncodePrompt(text);

    /// <summary>The log-likelihood of each choice.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="rows">The choices.</param>
    /// <param name="batchSize">Batch size, in rows.</param>
    /// <param name="stop">Cancels between batches.</param>
    internal static double[] LogLikelihoods(CausalLanguageModel model, IReadOnlyList<ChoiceRow> rows, int batchSize, CancellationToken stop)
    {
        model.Config.RequireLanguage("a log-likelihood");
        using var nothing = no_grad();
        var found = new double[rows.Count];
        foreach (var chunk in Enumerable.Range(0, rows.Count).OrderBy(i => rows[i].Row.Ids.Length).Chunk(batchSize))
        {
            stop.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var batch = TokenBatch.Of([.. chunk.Select(i => rows[i].Row)], padId: 0, model.Device);
            var sums = TokenLogProbs.SumRows(TokenLogProbs.Of(model, batch).LogProbs, batch).cpu();
            for (var i = 0; i < chunk.Length; i++)
            {
                found[chunk[i]] = sums[i].ToDouble();
            }
        }

        return found;
    }
}
