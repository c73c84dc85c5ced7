namespace OpenWeights.Tune.Torch;

/// <summary>What supplies TorchSharp's API, and what it can tell that the API has no member for.</summary>
public interface ITorchSupplier
{
    /// <summary>The name: system, or the package.</summary>
    string Name { get; }

    /// <summary>The version of libtorch, or of the package.</summary>
    string Version { get; }

    /// <summary>How torch was built and runs, in lines; empty where the supplier cannot tell.</summary>
    IReadOnlyList<string> Description { get; }

    /// <summary>What the setup did, or what the user could do, to make torch faster; empty for nothing.</summary>
    IReadOnlyList<string> Notes { get; }

    /// <summary>Begins to load torch's libraries in the background, where it can: a program that reads files first does not wait for them later.</summary>
    void LoadAhead();
}
