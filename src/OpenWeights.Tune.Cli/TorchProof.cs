using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Cli;

/// <summary>
/// What scripts/owt asks before it chooses a torch runtime: that it loads and multiplies. The libraries that were loaded for it are written
/// down, so that the script sees when one of them has changed since.
/// </summary>
internal static class TorchProof
{
    /// <summary>Proves the torch of this program and writes the files of its libraries, a line each.</summary>
    /// <param name="file">The file to write.</param>
    /// <exception cref="TorchUnavailableException">It cannot be loaded, does not fit, or computes wrongly.</exception>
    internal static void Write(string file)
    {
        TorchSupplier.Require();
        TorchSupplier.Prove(ScalarType.BFloat16);
        File.WriteAllLines(file, TorchSupplier.Libraries());
        Console.Out.WriteLine($"{TorchSupplier.Current.Name}, libtorch {TorchSupplier.Current.Version}");
    }
}
