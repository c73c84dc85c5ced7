namespace OpenWeights.Tune.Torch;

/// <summary>Supplier of TorchSharp's API, with information that the API does not provide.</summary>
internal interface ITorchSupplier
{
    /// <summary>Name: system, or the package.</summary>
    string Name { get; }

    /// <summary>Version of libtorch, such as 2.10.0; loads it.</summary>
    string Version { get; }

    /// <summary>Path of the loaded libtorch, or null if unknown; loads it.</summary>
    string? Library { get; }

    /// <summary>How torch was built and runs, in lines; empty if unknown; loads it.</summary>
    IReadOnlyList<string> Description { get; }

    /// <summary>Notes on measures that make torch faster: taken at startup, or left to the user. Loads torch.</summary>
    IReadOnlyList<string> Notes { get; }

    /// <summary>
    /// Starts loading torch's libraries in the background, so that a program that reads files first does not wait for them later.
    /// </summary>
    void LoadAhead();

    /// <summary>Loads torch's libraries, once, and checks that their versions match.</summary>
    /// <exception cref="TorchUnavailableException">The libraries are missing, cannot be loaded, or have versions that do not
    /// match.</exception>
    void Load();
}
