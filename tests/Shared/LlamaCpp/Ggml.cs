using System.Runtime.InteropServices;
using LLama.Native;
using OpenWeights.LlamaCpp;

namespace OpenWeights.Testing;

/// <summary>llama.cpp's own quantizers, which are the reference.</summary>
internal static class Ggml
{
    /// <summary>A function of ggml.</summary>
    public static nint Function(string name)
    {
        RequiredLlamaCpp.Check();
        return NativeLibrary.GetExport(NativeLibrary.Load(Directory.EnumerateFiles(LlamaLibrary.Folder, "*ggml-base.*").Single()), name);
    }

    /// <summary>Requantizes a GGUF file of float32 or float16 tensors to the type of file that GGUF gives a number.</summary>
    public static void Quantize(string input, string output, int fileType)
    {
        RequiredLlamaCpp.Check();
        var settings = LLamaModelQuantizeParams.Default();
        (settings.nthread, settings.ftype) = (1, (LLamaFtype)fileType);
        if (NativeApi.llama_model_quantize(input, output, ref settings) != 0)
        {
            throw new InvalidDataException($"llama.cpp cannot quantize {input}.");
        }
    }
}
