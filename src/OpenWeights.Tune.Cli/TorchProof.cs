using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli;

/// <summary>
/// Checks for scripts/owt that a torch runtime loads and computes. The loaded libraries are listed, so that the script detects
/// changes to them.
/// </summary>
internal static class TorchProof
{
    /// <summary>Checks this program's torch and writes the files of its libraries, one per line.</summary>
    /// <param name="file">The file to write.</param>
    /// <exception cref="TorchUnavailableException">Torch cannot be loaded, has an unsupported version, or computes wrongly.</exception>
    internal static void Write(string file)
    {
        TorchSupplier.Require();
        TorchSupplier.Prove(ScalarType.BFloat16);
        File.WriteAllLines(file, TorchSupplier.Libraries());
        Console.Out.WriteLine($"{TorchSupplier.Current.Name}, libtorch {TorchSupplier.Current.Version}");
    }
}
