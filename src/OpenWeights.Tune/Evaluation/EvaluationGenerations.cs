using System.Text.Json;
using OpenWeights.Tokenizers;
using OpenWeights.Tokenizers.Templates;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Files;
using OpenWeights.Tune.Data.Formats;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Evaluation;

/// <summary>Prompts of eval rows with their reference answers, to generate and compare the model's answers.</summary>
internal sealed class EvaluationGenerations
{
    private const int BatchSize = 32;
    private const int MaxPassed = 1000;
    private readonly List<(int[] Prompt, string PromptText, string Answer)> _prompts = [];
    private readonly ITokenizer _tokenizer;
    private readonly IReadOnlyList<int> _endTokens;
    private readonly ReasoningFormat? _reasoning;

    private EvaluationGenerations(ITokenizer tokenizer, ReasoningFormat? reasoning, IReadOnlyList<int> endTokens, EvaluationRows asked)
    {
        _tokenizer = tokenizer;
        _reasoning = reasoning;
        _endTokens = endTokens;
        Rows = asked;
    }

    /// <summary>Which rows they are.</summary>
    public EvaluationRows Rows { get; }

    /// <summary>The first rows with a prompt.</summary>
    /// <param name="sources">The data sets.</param>
    /// <param name="rows">Tokenizes rows.</param>
    /// <param name="count">Maximum number of rows.</param>
    /// <param name="endTokens">Tokens that end an answer.</param>
    /// <param name="longestPrompt">Maximum length of a prompt, in tokens; rows with longer ones are skipped.</param>
    /// <param name="asked">Which rows they are.</param>
    /// <param name="places">Places of the rows that may be used; null for all.</param>
    /// <param name="promptsAlone">Whether rows may be prompts without an answer.</param>
    public static EvaluationGenerations Read(
        IReadOnlyList<DataSource> sources, RowTokenizer rows, int count, IReadOnlyList<int> endTokens, int longestPrompt = int.MaxValue, EvaluationRows asked = EvaluationRows.Eval, IReadOnlySet<string>? places = null, bool promptsAlone = false)
    {
        ArgumentNullException.ThrowIfNull(sources);
        ArgumentNullException.ThrowIfNull(rows);
        var set = new EvaluationGenerations(rows.Tokenizer, rows.Chat?.Reasoning, endTokens, asked);
        var passed = 0;
        foreach (var source in sources)
        {
            IRowFormat? format = null;
            foreach (var row in DataFile.ReadGood(source).Take(source.Limit ?? int.MaxValue))
            {
                // The data may consist only of rows without a prompt.
                if (set.Count == count || passed > MaxPassed)
                {
                    return set;
                }

                format ??= RowFormats.Of(source, row, row, promptsAlone ? RowKind.Prompts : null);
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

    /// <summary>Prompts of given rows.</summary>
    /// <param name="chosen">The rows, each with its format.</param>
    /// <param name="rows">Tokenizes rows.</param>
    /// <param name="endTokens">Tokens that end an answer.</param>
    internal static EvaluationGenerations Of(IEnumerable<(IRowFormat Format, DataRow Row)> chosen, RowTokenizer rows, IReadOnlyList<int> endTokens)
    {
        var set = new EvaluationGenerations(rows.Tokenizer, rows.Chat?.Reasoning, endTokens, EvaluationRows.Eval);
        set._prompts.AddRange(chosen.Select(c => Question(c.Format, c.Row, rows)).OfType<(int[], string, string)>());
        return set;
    }

    /// <summary>Token ids of the prompts.</summary>
    internal IReadOnlyList<int[]> Prompts => [.. _prompts.Select(static q => q.Prompt)];

    // Rows that cannot be read were already refused, or counted and skipped, when the eval rows were created.
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

    /// <summary>Number of prompts.</summary>
    public int Count => _prompts.Count;

    /// <summary>A subset, spread evenly over all prompts.</summary>
    /// <param name="count">Maximum number of prompts.</param>
    public EvaluationGenerations Take(int count)
    {
        var taken = new EvaluationGenerations(_tokenizer, _reasoning, _endTokens, Rows);
        count = Math.Min(count, Count);
        taken._prompts.AddRange(Enumerable.Range(0, count).Select(i => _prompts[(int)((long)i * Count / count)]));
        return taken;
    }

    /// <summary>Generates the model's greedy answers, each rank some of them; all ranks get all.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="maxNewTokens">Maximum length of an answer, in tokens.</param>
    internal IReadOnlyList<Answer> Generate(RankGroup ranks, CausalLanguageModel model, int maxNewTokens)
    {
        if (ranks.IsAlone)
        {
            return Generate(model, maxNewTokens, CancellationToken.None);
        }

        using var doing = ranks.Activity?.Do("generating answers");
        var own = new EvaluationGenerations(_tokenizer, _reasoning, _endTokens, Rows);
        own._prompts.AddRange(_prompts.Take(ranks.PartOf(Count)));
        string[] given = [.. own.Generate(model, maxNewTokens, CancellationToken.None).Select(static a => a.Given)];
        var all = ranks.Gather(JsonSerializer.SerializeToUtf8Bytes(given), model.Device).SelectMany(static b => JsonSerializer.Deserialize<string[]>(b)!);
        return [.. _prompts.Zip(all, static (p, text) => new Answer(p.PromptText, p.Answer, text))];
    }

    /// <summary>Generates the model's greedy answers.</summary>
    /// <param name="model">The model, with its adapter.</param>
    /// <param name="maxNewTokens">Maximum length of an answer, in tokens.</param>
    /// <param name="stop">Cancels between tokens.</param>
    public IReadOnlyList<Answer> Generate(CausalLanguageModel model, int maxNewTokens, CancellationToken stop)
    {
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = maxNewTokens, EndTokens = _endTokens });
        return Generate(ContextLimit.Of(model.Config).Tokens, prompts => generator.Continue(prompts, stop: stop).Select(static g => g.OutputIds));
    }

    /// <summary>Generates answers with any generator.</summary>
    /// <param name="room">Context length, in tokens.</param>
    /// <param name="goOn">Generates the tokens after each of some prompts.</param>
    internal IReadOnlyList<Answer> Generate(int room, Func<IReadOnlyList<int[]>, IEnumerable<IReadOnlyList<int>>> goOn)
    {
        // A prompt that fills the context is reported instead of answered.
        var answers = new Answer[_prompts.Count];
        foreach (var i in Enumerable.Range(0, _prompts.Count).Where(i => _prompts[i].Prompt.Length >= room))
        {
            answers[i] = new Answer(_prompts[i].PromptText, _prompts[i].Answer, $"(no answer: the prompt has {_prompts[i].Prompt.Length} tokens and the model's context is {room})");
        }

        // Prompts of similar length are batched together to reduce padding.
        foreach (var chunk in Enumerable.Range(0, _prompts.Count).Where(i => answers[i] is null).OrderBy(i => _prompts[i].Prompt.Length).Chunk(BatchSize))
        {
            foreach (var (i, generated) in chunk.Zip(goOn([.. chunk.Select(i => _prompts[i].Prompt)])))
            {
                var (_, prompt, expected) = _prompts[i];
                answers[i] = new Answer(prompt, expected, Given(_prompts[i].Prompt, generated));
            }
        }

        return answers;
    }

    // The answer alone: what a model reasons before it is not compared.
    private string Given(int[] prompt, IReadOnlyList<int> generated) => _reasoning is null
        ? _tokenizer.Decode(generated, skipSpecialTokens: true)
        : new AnswerReader(_reasoning, _tokenizer.Decode(prompt, skipSpecialTokens: false)).Read(_tokenizer, generated).Answer;
}

/// <summary>Prompt and reference answer of an eval row, with the model's answer.</summary>
/// <param name="Prompt">The prompt.</param>
/// <param name="Expected">The reference answer.</param>
/// <param name="Given">The model's answer.</param>
public sealed record Answer(string Prompt, string Expected, string Given)
{
    /// <summary>Whether both are equal, ignoring leading and trailing white space.</summary>
    public bool IsExact => Expected.Trim() == Given.Trim();
}

/// <summary>Which rows the model is evaluated on.</summary>
internal enum EvaluationRows
{
    /// <summary>Rows of data.eval.</summary>
    Eval,

    /// <summary>Rows held out by data.eval_fraction.</summary>
    HeldBack,

    /// <summary>Training rows, if there are no others.</summary>
    Trained,
}
