using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Generation;

/// <summary>Prompts of eval rows with the answers that the rows give, to compare a model's own answers with.</summary>
public sealed class QuestionSet
{
    private const int BatchSize = 32;
    private const int MostPassed = 1000;
    private readonly List<(int[] Prompt, string PromptText, string Answer)> _questions = [];
    private readonly ITokenizer _tokenizer;
    private readonly IReadOnlyList<int> _endTokens;

    private QuestionSet(ITokenizer tokenizer, IReadOnlyList<int> endTokens, AskedRows asked)
    {
        _tokenizer = tokenizer;
        _endTokens = endTokens;
        Asked = asked;
    }

    /// <summary>Whose rows they are.</summary>
    public AskedRows Asked { get; }

    /// <summary>The first rows of data sets that have a prompt.</summary>
    /// <param name="sources">The files.</param>
    /// <param name="rows">Makes token rows of texts.</param>
    /// <param name="count">How many at most.</param>
    /// <param name="endTokens">Tokens that end an answer.</param>
    /// <param name="longestPrompt">The longest prompt, in tokens; rows with a longer one are passed over.</param>
    /// <param name="asked">Whose rows they are.</param>
    /// <param name="places">The places of the rows that may be asked; null for all.</param>
    public static QuestionSet Read(
        IReadOnlyList<DataSource> sources, RowTokenizer rows, int count, IReadOnlyList<int> endTokens, int longestPrompt = int.MaxValue, AskedRows asked = AskedRows.Eval, IReadOnlySet<string>? places = null)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(rows);
        var set = new QuestionSet(rows.Tokenizer, endTokens, asked);
        var passed = 0;
        foreach (var source in sources)
        {
            IRowFormat? format = null;
            foreach (var row in DataFile.ReadGood(source).Take(source.Limit ?? int.MaxValue))
            {
                // Rows without a question may be all that there are.
                if (set.Count == count || passed > MostPassed)
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
                    set._questions.Add(question);
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
    internal static QuestionSet Of(IEnumerable<(IRowFormat Format, DataRow Row)> chosen, RowTokenizer rows, IReadOnlyList<int> endTokens)
    {
        var set = new QuestionSet(rows.Tokenizer, endTokens, AskedRows.Eval);
        set._questions.AddRange(chosen.Select(c => Question(c.Format, c.Row, rows)).OfType<(int[], string, string)>());
        return set;
    }

    /// <summary>The token ids of the prompts.</summary>
    internal IReadOnlyList<int[]> Prompts => [.. _questions.Select(static q => q.Prompt)];

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
    public int Count => _questions.Count;

    /// <summary>Some of the questions, spread over all.</summary>
    /// <param name="count">How many at most.</param>
    public QuestionSet Take(int count)
    {
        var taken = new QuestionSet(_tokenizer, _endTokens, Asked);
        count = Math.Min(count, Count);
        taken._questions.AddRange(Enumerable.Range(0, count).Select(i => _questions[(int)((long)i * Count / count)]));
        return taken;
    }

    /// <summary>The model's greedy answers.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="maxNewTokens">The longest answer.</param>
    /// <param name="stop">Stops between tokens.</param>
    public IReadOnlyList<Answer> Ask(CausalLanguageModel model, int maxNewTokens, CancellationToken stop)
    {
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = maxNewTokens, EndTokens = _endTokens });
        return Ask(ModelRoom.Of(model.Config).Tokens, prompts => generator.Continue(prompts, stop: stop).Select(static g => g.OutputIds));
    }

    /// <summary>The answers of whoever goes on from prompts.</summary>
    /// <param name="room">The longest text, in tokens.</param>
    /// <param name="goOn">The tokens that follow each of some prompts.</param>
    internal IReadOnlyList<Answer> Ask(int room, Func<IReadOnlyList<int[]>, IEnumerable<IReadOnlyList<int>>> goOn)
    {
        // A prompt that the model has no room to answer is said to be so.
        var answers = new Answer[_questions.Count];
        foreach (var i in Enumerable.Range(0, _questions.Count).Where(i => _questions[i].Prompt.Length >= room))
        {
            answers[i] = new Answer(_questions[i].PromptText, _questions[i].Answer, $"(no answer: the prompt has {_questions[i].Prompt.Length} tokens, and the model room for {room})");
        }

        // Prompts of like lengths together need the least padding.
        foreach (var chunk in Enumerable.Range(0, _questions.Count).Where(i => answers[i] is null).OrderBy(i => _questions[i].Prompt.Length).Chunk(BatchSize))
        {
            foreach (var (i, generated) in chunk.Zip(goOn([.. chunk.Select(i => _questions[i].Prompt)])))
            {
                var (_, prompt, expected) = _questions[i];
                answers[i] = new Answer(prompt, expected, _tokenizer.Decode(generated, skipSpecialTokens: true));
            }
        }

        return answers;
    }
}
