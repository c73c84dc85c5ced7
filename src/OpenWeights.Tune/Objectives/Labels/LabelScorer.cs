using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Labels;

/// <summary>
/// Scores texts and chats with a reward model or a classifier, a batch at a time, without gradients. Texts are tokenized as the objectives reward and
/// classification do.
/// </summary>
/// <param name="model">The model, with its adapter.</param>
/// <param name="tokenizer">Tokenizes the texts.</param>
/// <param name="batchSize">Number of texts that the model reads together.</param>
internal sealed class LabelScorer(CausalLanguageModel model, RowTokenizer tokenizer, int batchSize = 8)
{
    /// <summary>The labels; one for a reward model.</summary>
    /// <exception cref="InvalidDataException">The model is a language model.</exception>
    public LabelHead Labels { get; } = model?.Config.Labels ?? throw new InvalidDataException("this model has a head of tokens and none of labels or rewards.");

    /// <summary>Whether it is a reward model.</summary>
    public bool IsReward => Labels.Names.Count == 1;

    /// <summary>The tokens of a chat that a reward model judges: the prompt with its answer.</summary>
    /// <param name="messages">The messages, the last of which is the assistant's.</param>
    /// <exception cref="InvalidDataException">The chat is invalid, or the model has no chat template.</exception>
    public int[] Encode(JsonArray messages) => Judged(new DataRow(new JsonObject { ["messages"] = messages?.DeepClone() }, "chat"));

    /// <summary>The tokens of a text that a reward model judges, with the EOS token at its end.</summary>
    /// <param name="text">The prompt with its answer.</param>
    public int[] Encode(string text) => tokenizer.Plain(text, 0, "text").Ids;

    /// <summary>The tokens of a row: "input_ids", "messages", "prompt" and "completion" (texts or messages), or "text".</summary>
    /// <param name="row">The row.</param>
    /// <exception cref="InvalidDataException">The row has none of these, or is invalid.</exception>
    public int[] Encode(DataRow row) => IsReward ? Judged(row) : WholeText.Ids(row, tokenizer);

    /// <summary>Whether a row has a chosen and a rejected answer.</summary>
    /// <param name="row">The row.</param>
    public static bool IsPair(DataRow row) => row is not null && (row.Has("chosen") || row.Has("chosen_ids") || row.Has("chosen_messages"));

    /// <summary>The tokens of a pair: the prompt with the chosen answer, and with the rejected one.</summary>
    /// <param name="row">The row.</param>
    /// <exception cref="InvalidDataException">The row is invalid.</exception>
    public IReadOnlyList<int[]> EncodePair(DataRow row)
    {
        ArgumentNullException.ThrowIfNull(row);
        IRowFormat format = row.Has("chosen_ids") ? new TokenizedFormat() : new PreferenceFormat();
        return [.. format.Read(row, tokenizer).Select(static r => r.Ids)];
    }

    /// <summary>The rewards of texts.</summary>
    /// <param name="texts">The tokens of each text.</param>
    /// <exception cref="InvalidDataException">The model is not a reward model, or does not know a token.</exception>
    public IReadOnlyList<double> Rewards(IReadOnlyList<int[]> texts) => IsReward ? [.. Scores(texts).Select(static s => s[0])]
        : throw new InvalidDataException($"this model scores {Labels.Names.Count} labels; a reward model has one.");

    /// <summary>The scores of each text for each label, before any softmax.</summary>
    /// <param name="texts">The tokens of each text.</param>
    /// <exception cref="InvalidDataException">A text is empty, or the model does not know one of its tokens.</exception>
    public IReadOnlyList<double[]> Scores(IReadOnlyList<int[]> texts)
    {
        ArgumentNullException.ThrowIfNull(texts);
        TextCheck.Require(texts, model.VocabularySize);
        using var nothing = no_grad();
        var scores = new double[texts.Count][];

        // Texts of similar length are read together, with little padding.
        foreach (var batch in Enumerable.Range(0, texts.Count).OrderBy(i => texts[i].Length).Chunk(batchSize))
        {
            using var scope = NewDisposeScope();
            var values = LabelScores.Of(model, [.. batch.Select(i => new TokenRow(texts[i], texts[i], "text"))]).to(float64).cpu().contiguous();
            var flat = MemoryMarshal.Cast<byte, double>(values.bytes).ToArray();
            for (var i = 0; i < batch.Length; i++)
            {
                scores[batch[i]] = flat[(i * Labels.Names.Count)..((i + 1) * Labels.Names.Count)];
            }
        }

        return scores;
    }

    /// <summary>The probability of each label, from the scores of a text.</summary>
    /// <param name="scores">The scores.</param>
    public static double[] Probabilities(IReadOnlyList<double> scores)
    {
        ArgumentNullException.ThrowIfNull(scores);
        var largest = scores.Max();
        var powers = scores.Select(s => Math.Exp(s - largest)).ToArray();
        var sum = powers.Sum();
        return Array.ConvertAll(powers, p => p / sum);
    }

    private int[] Judged(DataRow row)
    {
        if (row.Has("input_ids"))
        {
            return row.Ints("input_ids");
        }

        if (ChatFormat.List(row.Json) is { } list)
        {
            return ChatFormat.Answer(row, tokenizer, null, list).Ids;
        }

        return row.Has("prompt") && row.Has("completion") ? new CompletionFormat().Read(row, tokenizer)[0].Ids : tokenizer.Plain(row.Text("text"), 0, row.Place).Ids;
    }
}
