using System.Runtime.InteropServices;
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>The supplier of TorchSharp's API that this program was built with.</summary>
internal static class TorchSupplier
{
    private static readonly Lock s_gate = new();
    private static volatile bool s_isProven;

    /// <summary>The supplier.</summary>
    public static ITorchSupplier Current { get; } =
#if TORCH_SYSTEM
        new SystemTorch();
#else
        new PackagedTorch();
#endif

    /// <summary>
    /// Loads torch, checks its version and multiplies two matrices, once per process: a libtorch of another version may load but
    /// compute wrongly. It is called before the first use of torch.
    /// </summary>
    /// <exception cref="TorchUnavailableException">Torch cannot be loaded, has an unsupported version, or computes wrongly.</exception>
    public static void Require()
    {
        if (s_isProven)
        {
            return;
        }

        lock (s_gate)
        {
            if (!s_isProven)
            {
                Current.Load();
                Prove(torch.ScalarType.Float32);
                s_isProven = true;
            }
        }
    }

    /// <summary>The files of the libraries in this process, except .NET's; only libtorch's on systems that do not list them.</summary>
    /// <exception cref="TorchUnavailableException">Torch cannot be loaded.</exception>
    public static IReadOnlyList<string> Libraries()
    {
        Require();
        const string shared = "/shared/Microsoft.NETCore.App/";
        var dotnet = typeof(object).Assembly.Location is var core && core.IndexOf(shared, StringComparison.Ordinal) is > 0 and var at ? core[..(at + 1)] : null;
        var files = LoadedLibraries.Files().Where(file => dotnet is null || !file.StartsWith(dotnet, StringComparison.Ordinal)).ToList();
        return files.Count > 0 ? files : Current.Library is { } library ? [library] : [];
    }

    /// <summary>
    /// Compares a matrix product with the same product in C#; all numbers are integers that the dtype represents exactly.
    /// </summary>
    /// <param name="dtype">Data type of the factors.</param>
    /// <exception cref="TorchUnavailableException">The product fails or differs.</exception>
    public static void Prove(torch.ScalarType dtype)
    {
        const int size = 16;
        var (left, right) = (new float[size * size], new float[size * size]);
        for (var i = 0; i < left.Length; i++)
        {
            (left[i], right[i]) = ((i % 7) - 3, (i % 5) - 2);
        }

        float[] product;
        try
        {
            using var scope = torch.NewDisposeScope();
            var (a, b) = (torch.tensor(left, [size, size]), torch.tensor(right, [size, size]));
            product = MemoryMarshal.Cast<byte, float>(a.to(dtype).mm(b.to(dtype)).to(torch.ScalarType.Float32).bytes).ToArray();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            throw new TorchUnavailableException($"{Current.Name}: torch is loaded, but multiplying two matrices fails: {e.Message.Split('\n')[0].TrimEnd('.')}.", e);
        }

        for (var row = 0; row < size; row++)
        {
            for (var column = 0; column < size; column++)
            {
                var expected = 0f;
                for (var k = 0; k < size; k++)
                {
                    expected += left[(row * size) + k] * right[(k * size) + column];
                }

                if (product[(row * size) + column] != expected)
                {
                    throw new TorchUnavailableException(
                        $"{Current.Name}: torch is loaded but computes wrongly: a product of two {dtype} matrices contains {product[(row * size) + column]} instead of {expected}. Its version does not match this program: use another torch runtime (OWT_TORCH).");
                }
            }
        }
    }
}
