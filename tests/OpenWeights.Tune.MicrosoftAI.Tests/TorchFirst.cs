#if !TORCH_SYSTEM
using System.Runtime.CompilerServices;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.MicrosoftAI.Tests;

/// <summary>Loads torch as the program does, before a test can have TorchSharp look for it.</summary>
internal static class TorchFirst
{
#pragma warning disable CA2255 // this is a program of tests, not a library
    [ModuleInitializer]
    internal static void Load() => TorchSupplier.Require();
#pragma warning restore CA2255
}
#endif
