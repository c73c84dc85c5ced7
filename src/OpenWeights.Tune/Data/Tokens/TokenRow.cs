namespace OpenWeights.Tune.Data.Tokens;

/// <summary>A row as the model reads it: one document, or several packed behind each other that do not see each other.</summary>
/// <param name="Ids">Token ids.</param>
/// <param name="Labels">The token at each place where it is trained, and <see cref="Ignored"/> elsewhere; not shifted.</param>
/// <param name="Documents">The lengths of the packed documents, in order; they add up to the row's length.</param>
/// <param name="Source">Where the row comes from, for messages: the file and the row's number in it.</param>
public sealed record TokenRow(int[] Ids, int[] Labels, int[] Documents, string Source)
{
    /// <summary>The label of a token that is not trained.</summary>
    public const int Ignored = -100;

    /// <summary>The places behind whole turns of a chat, where it may be cut; empty where there are none.</summary>
    public int[] TurnEnds { get; init; } = [];

    /// <summary>What the row is for.</summary>
    public RowRole Role { get; init; }

    /// <summary>A row of one document.</summary>
    public TokenRow(int[] ids, int[] labels, string source)
        : this(ids, labels, [ids.Length], source)
    {
    }

    /// <summary>The number of tokens that are predicted: labels that are trained and stand behind another token of their document.</summary>
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

/// <summary>What a row is for.</summary>
public enum RowRole
{
    /// <summary>To be learned.</summary>
    Plain,

    /// <summary>The better answer of a pair; the row behind it is the worse.</summary>
    Chosen,

    /// <summary>The worse answer of a pair.</summary>
    Rejected,

    /// <summary>An answer that someone liked.</summary>
    Desired,

    /// <summary>An answer that someone did not like.</summary>
    Undesired,
}
