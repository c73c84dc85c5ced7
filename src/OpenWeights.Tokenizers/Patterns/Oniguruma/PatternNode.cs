namespace OpenWeights.Tokenizers;

/// <summary>A part of a regular expression.</summary>
internal abstract record PatternNode
{
    /// <summary>One character of a set.</summary>
    public sealed record Set(CodePointSet Characters) : PatternNode;

    /// <summary>Parts in a row.</summary>
    public sealed record Sequence(IReadOnlyList<PatternNode> Parts) : PatternNode;

    /// <summary>The first of several that leads to a match.</summary>
    public sealed record Alternation(IReadOnlyList<PatternNode> Choices) : PatternNode;

    /// <summary>A repeated part.</summary>
    /// <param name="Part">The part.</param>
    /// <param name="Least">At least so often.</param>
    /// <param name="Most">At most so often; null for any number.</param>
    /// <param name="IsLazy">As few as possible first.</param>
    public sealed record Repeat(PatternNode Part, int Least, int? Most, bool IsLazy) : PatternNode;

    /// <summary>A group that .NET spells the same: <c>?&gt;</c>, <c>?=</c>, <c>?!</c>, <c>?&lt;=</c>, <c>?&lt;!</c>.</summary>
    public sealed record Group(string Kind, PatternNode Part) : PatternNode;

    /// <summary>A place: <c>\A</c> or <c>\z</c>.</summary>
    public sealed record Place(string Kind) : PatternNode;
}
