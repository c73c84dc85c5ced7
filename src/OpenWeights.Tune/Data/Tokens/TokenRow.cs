namespace OpenWeights.Tune.Data.Tokens;

/// <summary>A row as the model sees it: one document, or several packed documents that do not attend to each other.</summary>
/// <param name="Ids">Token ids.</param>
/// <param name="Labels">The token id at each trained position, and <see cref="Ignored"/> elsewhere; not shifted.</param>
/// <param name="Documents">Lengths of the packed documents, in order; their sum is the row's length.</param>
/// <param name="Source">Origin of the row, for messages: the file and the row's number in it.</param>
internal sealed record TokenRow(int[] Ids, int[] Labels, int[] Documents, string Source)
{
    /// <summary>Label of a token that is not trained.</summary>
    public const int Ignored = -100;

    /// <summary>Positions after complete turns of a chat, where it may be truncated; empty if there are none.</summary>
    public int[] TurnEnds { get; init; } = [];

    /// <summary>What the row is used for.</summary>
    public RowRole Role { get; init; }

    /// <summary>Of a chosen answer, by how much its reward should at least exceed the rejected one's; 0 if the data does not say.</summary>
    public double Margin { get; init; }

    /// <summary>The class of a text, as the data names it; null for other rows.</summary>
    public string? Label { get; init; }

    /// <summary>What an objective reads of the row besides its tokens, as JSON: see <see cref="RowFieldNames"/>; null for nothing.</summary>
    public string? Fields { get; init; }

    /// <summary>The answer that the row is, where it was sampled from a policy; null for others.</summary>
    public AnswerSample? Sample { get; init; }

    /// <summary>Creates a row of one document.</summary>
    public TokenRow(int[] ids, int[] labels, string source)
        : this(ids, labels, [ids.Length], source)
    {
    }

    /// <summary>The packed documents as rows of their own, in order.</summary>
    internal IEnumerable<TokenRow> EachDocument()
    {
        if (Documents.Length == 1)
        {
            yield return this;
            yield break;
        }

        var start = 0;
        foreach (var length in Documents)
        {
            yield return new TokenRow(Ids[start..(start + length)], Labels[start..(start + length)], Source);
            start += length;
        }
    }

    /// <summary>Number of target tokens: trained labels that follow another token of their document.</summary>
    public int CountTargets()
    {
        var (count, start) = (0, 0);
        foreach (var length in Documents)
        {
            for (var i = start + 1; i < start + length; i++)
            {
                count += Labels[i] == Ignored ? 0 : 1;
            }

            start += length;
        }

        return count;
    }
}

/// <summary>The rows that an objective trains on.</summary>
internal enum RowKind
{
    /// <summary>Rows of one text or chat each.</summary>
    Plain,

    /// <summary>Pairs of a chosen and a rejected answer.</summary>
    Pairs,

    /// <summary>Single answers with a label, desirable or not.</summary>
    Labelled,

    /// <summary>Texts with the name or number of their class.</summary>
    Classified,

    /// <summary>Texts that belong together: an anchor, its positive, and negatives.</summary>
    Related,

    /// <summary>Prompts alone, whose answers are sampled while training.</summary>
    Prompts,

    /// <summary>Answers that were sampled before, with their rewards, in groups of one prompt.</summary>
    Samples,
}

/// <summary>What a row is used for.</summary>
internal enum RowRole
{
    /// <summary>Supervised fine-tuning.</summary>
    Plain,

    /// <summary>The chosen answer of a pair; the next row is the rejected one.</summary>
    Chosen,

    /// <summary>The rejected answer of a pair.</summary>
    Rejected,

    /// <summary>A desirable answer.</summary>
    Desired,

    /// <summary>An undesirable answer.</summary>
    Undesired,

    /// <summary>A text with a class.</summary>
    Classified,

    /// <summary>An anchor, its positive and its negatives, which are the row's documents in this order.</summary>
    Related,

    /// <summary>A prompt without an answer.</summary>
    Prompt,

    /// <summary>An answer sampled from a policy, with its rewards.</summary>
    Sampled,
}
