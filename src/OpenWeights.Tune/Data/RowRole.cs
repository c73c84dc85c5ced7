namespace OpenWeights.Tune.Data;

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
