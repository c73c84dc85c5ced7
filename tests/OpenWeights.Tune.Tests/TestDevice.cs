using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests;

/// <summary>Where the comparisons with references run: on the CPU, or on the device that OWT_TEST_DEVICE names (scripts/gpu-check).</summary>
internal static class TestDevice
{
    /// <summary>The category of tests that show nothing on a GPU that others do not show there in less time.</summary>
    internal const string CpuAlone = nameof(CpuAlone);

    /// <summary>The category of comparisons with references, which run under every torch runtime (scripts/test --both).</summary>
    internal const string Parity = nameof(Parity);

    internal static string Name { get; } = Environment.GetEnvironmentVariable("OWT_TEST_DEVICE") is { Length: > 0 } name ? name : "cpu";

    /// <summary>
    /// Tensors that are alive. A GPU's backward runs on a thread of its own and frees what was made here, so there all threads' tensors
    /// count; a finalizer may free a forgotten one of them at any time, so the number may fall between two looks.
    /// </summary>
    internal static long LiveTensors => Name == "cpu" ? DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount : Tensor.TotalCount;

    internal static Device Current => Devices.Find(Name);

    /// <summary>How much further off than on the CPU a result may be: the references ran on a CPU, and a GPU sums in another order.</summary>
    internal static double Slack => Name == "cpu" ? 1 : 10;
}
