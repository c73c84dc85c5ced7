namespace OpenWeights.Tune.Torch;

/// <summary>Says that this process gets on: a layer is computed, a tensor is read. Where it is one of several ranks, the others wait for it meanwhile.</summary>
internal static class WorkMarks
{
    /// <summary>Who wants to know; null for nobody.</summary>
    internal static Action? Watcher { get; set; }

    /// <summary>Says that a piece of work is done.</summary>
    internal static void Set() => Watcher?.Invoke();
}
