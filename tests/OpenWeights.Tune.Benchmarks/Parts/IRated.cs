namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>A benchmark that knows how much one run of it does.</summary>
internal interface IRated
{
    /// <summary>Operations or bytes of one run.</summary>
    double Work { get; }

    /// <summary>What a thousand million of them in a second are called: GFLOP/s or GB/s.</summary>
    string Unit { get; }
}
