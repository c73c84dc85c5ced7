using NUnit.Framework;
using OpenWeights.LlamaCpp;

namespace OpenWeights.Testing;

/// <summary>llama.cpp for tests that need it; they are skipped, with the reason, where its library cannot be loaded.</summary>
internal static class RequiredLlamaCpp
{
    /// <summary>Ends the test here where there is no llama.cpp.</summary>
    public static void Check()
    {
        if (LlamaLibrary.Problem is { } problem)
        {
            Assert.Ignore($"llama.cpp is not here: {problem}");
        }
    }
}
