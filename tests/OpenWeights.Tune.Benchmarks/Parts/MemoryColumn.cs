using System.Globalization;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using OpenWeights.Tune.Torch.Memory;

namespace OpenWeights.Tune.Benchmarks.Parts;

/// <summary>The peak memory of one run of a part beyond its inputs: blocks of 256 KiB and more, which come from the pool.</summary>
public sealed class MemoryColumn : IColumn
{
    /// <inheritdoc/>
    public string Id => nameof(MemoryColumn);

    /// <inheritdoc/>
    public string ColumnName => "Peak";

    /// <inheritdoc/>
    public bool AlwaysShow => true;

    /// <inheritdoc/>
    public ColumnCategory Category => ColumnCategory.Custom;

    /// <inheritdoc/>
    public int PriorityInCategory => 1;

    /// <inheritdoc/>
    public bool IsNumeric => true;

    /// <inheritdoc/>
    public UnitType UnitType => UnitType.Dimensionless;

    /// <inheritdoc/>
    public string Legend => "Most memory of large tensors at once, beyond the inputs";

    /// <inheritdoc/>
    public string GetValue(Summary summary, BenchmarkCase benchmarkCase)
    {
        ArgumentNullException.ThrowIfNull(benchmarkCase);
        if (CpuMemory.Statistics is null || Activator.CreateInstance(benchmarkCase.Descriptor.Type) is not Part part)
        {
            return "-";
        }

        part.Precision = (string)benchmarkCase.Parameters[nameof(Part.Precision)];
        part.HiddenSize = (int)benchmarkCase.Parameters[nameof(Part.HiddenSize)];
        part.Setup();
        try
        {
            var isBaseline = benchmarkCase.Descriptor.WorkloadMethod.Name == nameof(Part.Composed);
            return string.Create(CultureInfo.InvariantCulture, $"{Peak(isBaseline ? part.Composed : part.Library) / 1e6:F1} MB");
        }
        finally
        {
            part.Cleanup();
        }
    }

    /// <inheritdoc/>
    public string GetValue(Summary summary, BenchmarkCase benchmarkCase, SummaryStyle style) => GetValue(summary, benchmarkCase);

    /// <inheritdoc/>
    public bool IsDefault(Summary summary, BenchmarkCase benchmarkCase) => false;

    /// <inheritdoc/>
    public bool IsAvailable(Summary summary) => true;

    private static long Peak(Action run)
    {
        CpuMemory.ResetPeak();
        var live = CpuMemory.Statistics!.Value.Live;
        run();
        return CpuMemory.Statistics.Value.Peak - live;
    }
}
