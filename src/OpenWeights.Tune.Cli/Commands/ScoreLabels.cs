using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Objectives.Labels;

namespace OpenWeights.Tune.Cli.Commands;

/// <summary>owt score --rewards and --labels: a line of JSON for each row.</summary>
internal static class ScoreLabels
{
    private const int RowsAtOnce = 64;

    /// <summary>Scores rows and prints them in order.</summary>
    /// <param name="session">The model.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="rewards">Whether rewards are asked for, and not labels.</param>
    /// <exception cref="InvalidDataException">The model is of another kind, or a row is invalid.</exception>
    internal static int Write(ModelSession session, IEnumerable<DataRow> rows, bool rewards)
    {
        var tokenizer = new RowTokenizer(session.Loaded.Folder.FolderPath, "assistant", session.ChatTemplate);
        var scorer = new LabelScorer(session.Model, tokenizer);
        if (rewards != scorer.IsReward)
        {
            throw new InvalidDataException(rewards
                ? $"--rewards needs a reward model, with one output; this model has {scorer.Labels.Names.Count} labels ({string.Join(", ", scorer.Labels.Names.Take(8))}). Use --labels."
                : "--labels needs a classifier; this is a reward model. Use --rewards.");
        }

        foreach (var chunk in rows.Chunk(RowsAtOnce))
        {
            Signals.Stop.ThrowIfCancellationRequested();
            var texts = chunk.Select(row => rewards && LabelScorer.IsPair(row) ? scorer.EncodePair(row) : [scorer.Encode(row)]).ToList();
            var scores = new Queue<double[]>(scorer.Scores([.. texts.SelectMany(static t => t)]));
            foreach (var text in texts)
            {
                Write(scorer, text, [.. text.Select(_ => scores.Dequeue())]);
            }
        }

        return ExitCode.Success;
    }

    private static void Write(LabelScorer scorer, IReadOnlyList<int[]> texts, double[][] scores)
    {
        if (texts.Count == 2)
        {
            JsonLines.Write(new { chosen = scores[0][0], rejected = scores[1][0], margin = scores[0][0] - scores[1][0] });
        }
        else if (scorer.IsReward)
        {
            JsonLines.Write(new { input_ids = texts[0], reward = scores[0][0] });
        }
        else
        {
            var probabilities = LabelScorer.Probabilities(scores[0]);
            var best = Array.IndexOf(probabilities, probabilities.Max());
            JsonLines.Write(new
            {
                input_ids = texts[0],
                label = scorer.Labels.Names[best],
                probability = probabilities[best],
                probabilities = scorer.Labels.Names.Select((name, i) => (name, probabilities[i])).ToDictionary(),
                logits = scores[0],
            });
        }
    }
}
