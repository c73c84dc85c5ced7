using System.Runtime.InteropServices;
using TorchSharp;

namespace OpenWeights.Tune.Torch;

/// <summary>The supplier of TorchSharp's API that this program was built with.</summary>
public static class TorchSupplier
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
    /// Loads torch, checks its version and has it multiply two matrices, once a process: a libtorch of another version may load and then
    /// compute something else. What uses torch first calls this.
    /// </summary>
    /// <exception cref="TorchUnavailableException">Torch cannot be loaded, is of a version that does not fit, or multiplies wrongly.</exception>
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

    /// <summary>The files of the libraries in this process, .NET's own left out; on systems that do not list them, libtorch's alone.</summary>
    /// <exception cref="TorchUnavailableException">Torch cannot be loaded.</exception>
    public static IReadOnlyList<string> Libraries()
    {
        Require();
        const string shared = "/shared/Microsoft.NETCore.App/";
        var dotnet = typeof(object).Assembly.Location is var core && core.IndexOf(shared, StringComparison.Ordinal) is > 0 and var at ? core[..(at + 1)] : null;
        var files = LoadedLibraries.Files().Where(file => dotnet is null || !file.StartsWith(dotnet, StringComparison.Ordinal)).ToList();
        return files.Count > 0 ? files : Current.Library is { } library ? [library] : [];
    }

    /// <summary>Compares a product of two matrices with the same product in C#; all numbers in it are whole and exact in the dtype.</summary>
    /// <param name="dtype">The dtype of the factors.</param>
    /// <exception cref="TorchUnavailableException">It fails or differs.</exception>
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
            throw new TorchUnavailableException($"{Current.Name}: torch is loaded, and a first product of two matrices fails: {e.Message.Split('\n')[0].TrimEnd('.')}.", e);
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
                        $"{Current.Name}: torch is loaded and computes wrongly: a product of two {dtype} matrices has {product[(row * size) + column]} where {expected} should be. Its version does not fit this program: take another torch runtime (OWT_TORCH).");
                }
            }
        }
    }
}
