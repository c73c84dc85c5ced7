using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Prompts of eval rows with the answers that the rows give, to compare a model's own answers with.</summary>
public sealed class EvaluationGenerations
{
    private const int BatchSize = 32;
    private const int MaxPassed = 1000;
    private readonly List<(int[] Prompt, string PromptText, string Answer)> _prompts = [];
    private readonly ITokenizer _tokenizer;
    private readonly IReadOnlyList<int> _endTokens;

    private EvaluationGenerations(ITokenizer tokenizer, IReadOnlyList<int> endTokens, EvaluationRows asked)
    {
        _tokenizer = tokenizer;
        _endTokens = endTokens;
        Rows = asked;
    }

    /// <summary>Whose rows they are.</summary>
    public EvaluationRows Rows { get; }

    /// <summary>The first rows of data sets that have a prompt.</summary>
    /// <param name="sources">The files.</param>
    /// <param name="rows">Makes token rows of texts.</param>
    /// <param name="count">How many at most.</param>
    /// <param name="endTokens">Tokens that end an answer.</param>
    /// <param name="longestPrompt">The longest prompt, in tokens; rows with a longer one are passed over.</param>
    /// <param name="asked">Whose rows they are.</param>
    /// <param name="places">The places of the rows that may be asked; null for all.</param>
    public static EvaluationGenerations Read(
        IReadOnlyList<DataSource> sources, RowTokenizer rows, int count, IReadOnlyList<int> endTokens, int longestPrompt = int.MaxValue, EvaluationRows asked = EvaluationRows.Eval, IReadOnlySet<string>? places = null)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(rows);
        var set = new EvaluationGenerations(rows.Tokenizer, endTokens, asked);
        var passed = 0;
        foreach (var source in sources)
        {
            IRowFormat? format = null;
            foreach (var row in DataFile.ReadGood(source).Take(source.Limit ?? int.MaxValue))
            {
                // Rows without a question may be all that there are.
                if (set.Count == count || passed > MaxPassed)
                {
                    return set;
                }

                format ??= RowFormats.Find(source.Format, row);
                if (places?.Contains(row.Place) == false)
                {
                    continue;
                }

                if (Question(format, row, rows) is { Prompt.Length: > 0 } question && question.Prompt.Length <= longestPrompt)
                {
                    set._prompts.Add(question);
                }
                else
                {
                    passed++;
                }
            }
        }

        return set;
    }

    /// <summary>The questions of rows that were chosen already.</summary>
    /// <param name="chosen">The rows, each with its format.</param>
    /// <param name="rows">Makes token rows of texts.</param>
    /// <param name="endTokens">Tokens that end an answer.</param>
    internal static EvaluationGenerations Of(IEnumerable<(IRowFormat Format, DataRow Row)> chosen, RowTokenizer rows, IReadOnlyList<int> endTokens)
    {
        var set = new EvaluationGenerations(rows.Tokenizer, endTokens, EvaluationRows.Eval);
        set._prompts.AddRange(chosen.Select(c => Question(c.Format, c.Row, rows)).OfType<(int[], string, string)>());
        return set;
    }

    /// <summary>The token ids of the prompts.</summary>
    internal IReadOnlyList<int[]> Prompts => [.. _prompts.Select(static q => q.Prompt)];

    // A row that cannot be read was refused, or counted and left out, when the rows to evaluate on were made.
    private static (int[] Prompt, string PromptText, string Answer)? Question(IRowFormat format, DataRow row, RowTokenizer rows)
    {
        try
        {
            return format.Question(row, rows);
        }
        catch (Exception e) when (e is InvalidDataException or ChatTemplateException or InvalidOperationException)
        {
            return null;
        }
    }

    /// <summary>The number of questions.</summary>
    public int Count => _prompts.Count;

    /// <summary>Some of the questions, spread over all.</summary>
    /// <param name="count">How many at most.</param>
    public EvaluationGenerations Take(int count)
    {
        var taken = new EvaluationGenerations(_tokenizer, _endTokens, Rows);
        count = Math.Min(count, Count);
        taken._prompts.AddRange(Enumerable.Range(0, count).Select(i => _prompts[(int)((long)i * Count / count)]));
        return taken;
    }

    /// <summary>The model's greedy answers.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="maxNewTokens">The longest answer.</param>
    /// <param name="stop">Stops between tokens.</param>
    public IReadOnlyList<Answer> Generate(CausalLanguageModel model, int maxNewTokens, CancellationToken stop)
    {
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = maxNewTokens, EndTokens = _endTokens });
        return Generate(ContextLimit.Of(model.Config).Tokens, prompts => generator.Continue(prompts, stop: stop).Select(static g => g.OutputIds));
    }

    /// <summary>The answers of whoever goes on from prompts.</summary>
    /// <param name="room">The longest text, in tokens.</param>
    /// <param name="goOn">The tokens that follow each of some prompts.</param>
    internal IReadOnlyList<Answer> Generate(int room, Func<IReadOnlyList<int[]>, IEnumerable<IReadOnlyList<int>>> goOn)
    {
        // A prompt that the model has no room to answer is said to be so.
        var answers = new Answer[_prompts.Count];
        foreach (var i in Enumerable.Range(0, _prompts.Count).Where(i => _prompts[i].Prompt.Length >= room))
        {
            answers[i] = new Answer(_prompts[i].PromptText, _prompts[i].Answer, $"(no answer: the prompt has {_prompts[i].Prompt.Length} tokens, and the model room for {room})");
        }

        // Prompts of like lengths together need the least padding.
        foreach (var chunk in Enumerable.Range(0, _prompts.Count).Where(i => answers[i] is null).OrderBy(i => _prompts[i].Prompt.Length).Chunk(BatchSize))
        {
            foreach (var (i, generated) in chunk.Zip(goOn([.. chunk.Select(i => _prompts[i].Prompt)])))
            {
                var (_, prompt, expected) = _prompts[i];
                answers[i] = new Answer(prompt, expected, _tokenizer.Decode(generated, skipSpecialTokens: true));
            }
        }

        return answers;
    }
}

/// <summary>An eval row's prompt, the answer that the row gives, and the model's.</summary>
/// <param name="Prompt">The prompt.</param>
/// <param name="Expected">The row's answer.</param>
/// <param name="Given">The model's answer.</param>
public sealed record Answer(string Prompt, string Expected, string Given)
{
    /// <summary>Whether both are the same, but for white space around them.</summary>
    public bool IsExact => Expected.Trim() == Given.Trim();
}

/// <summary>Whose rows a model is asked.</summary>
public enum EvaluationRows
{
    /// <summary>Those of data.eval.</summary>
    Eval,

    /// <summary>Those that data.eval_fraction holds back.</summary>
    HeldBack,

    /// <summary>Those that are trained on, where there are no others.</summary>
    Trained,
}
