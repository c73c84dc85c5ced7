namespace OpenWeights.Tune.Generation;

/// <summary>Whose rows a model is asked.</summary>
public enum AskedRows
{
    /// <summary>Those of data.eval.</summary>
    Eval,

    /// <summary>Those that data.eval_fraction holds back.</summary>
    HeldBack,

    /// <summary>Those that are trained on, where there are no others.</summary>
    Trained,
}
