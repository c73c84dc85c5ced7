namespace OpenWeights.Tune.Torch;

/// <summary>What supplies TorchSharp's API, and what it can tell that the API has no member for.</summary>
public interface ITorchSupplier
{
    /// <summary>The name: system, or the package.</summary>
    string Name { get; }

    /// <summary>The version of libtorch, such as 2.10.0; loads it.</summary>
    string Version { get; }

    /// <summary>The file of libtorch that is loaded, or null where that cannot be told; loads it.</summary>
    string? Library { get; }

    /// <summary>How torch was built and runs, in lines; empty where the supplier cannot tell; loads it.</summary>
    IReadOnlyList<string> Description { get; }

    /// <summary>What the setup did, or what the user could do, to make torch faster; empty for nothing; loads it.</summary>
    IReadOnlyList<string> Notes { get; }

    /// <summary>Begins to load torch's libraries in the background: a program that reads files first does not wait for them later.</summary>
    void LoadAhead();

    /// <summary>Loads torch's libraries, once, and checks that they fit each other.</summary>
    /// <exception cref="TorchUnavailableException">They are not there, cannot be loaded, or are of versions that do not fit.</exception>
    void Load();
}
