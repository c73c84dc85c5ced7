namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>A reader of files from elsewhere, with a source of damaged and hostile files for it.</summary>
internal abstract class FuzzedReader : IDisposable
{
    /// <summary>The reader's name for scripts/fuzz.</summary>
    public abstract string Name { get; }

    /// <summary>Managed memory that one input may take besides twice its own size, in bytes.</summary>
    public virtual long Constant => 8 << 20;

    /// <summary>How many inputs a plain run of the tests reads.</summary>
    public virtual int Usual => 1000;

    /// <summary>Whether the reader takes what it can from any input and refuses none.</summary>
    public virtual bool TakesAll => false;

    /// <summary>Makes an input; the same for the same state of the random numbers.</summary>
    public abstract byte[] Make(Mutation random);

    /// <summary>Reads an input and all that it leads to.</summary>
    /// <param name="input">The bytes of the file.</param>
    /// <param name="folder">A folder for the reader's files.</param>
    public abstract void Read(byte[] input, string folder);

    /// <summary>Whether the reader's documentation allows an exception for bad input.</summary>
    public virtual bool IsDocumented(Exception error) => error is InvalidDataException;

    public virtual void Dispose()
    {
    }

    /// <summary>The readers.</summary>
    public static IReadOnlyList<Func<FuzzedReader>> All { get; } =
    [
        static () => new SafetensorsInputs(),
        static () => new GgufInputs(),
        static () => new TokenizerJsonInputs(),
        static () => new TemplateInputs(),
        static () => new SentencePieceInputs(),
        static () => new TokenizerSettingsInputs(),
        static () => new YamlInputs(),
        static () => new JsonRowsInputs(),
        static () => new TableInputs(),
        static () => new ModelFolderInputs(),
        static () => new AdapterInputs(),
        static () => new CheckpointInputs(),
        static () => new MetricsInputs(),
    ];

    public override string ToString() => Name;
}
