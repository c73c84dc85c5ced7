using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.LlamaCpp;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>llama.cpp's generation beside ours: llama-cpp OURS MODEL.gguf PROMPT NEW THREADS, where OURS is what <c>owt bench generate</c> printed.</summary>
internal static class BesideLlamaCpp
{
    /// <summary>Measures each batch size of ours in llama.cpp too, and prints a JSON line with both and their quotient.</summary>
    /// <param name="arguments">The words behind <c>llama-cpp</c>.</param>
    /// <returns>0, or 1 where llama.cpp cannot be loaded.</returns>
    internal static int Run(string[] arguments)
    {
        if (LlamaLibrary.Problem is { } problem)
        {
            Console.Error.WriteLine($"error: llama.cpp is not here: {problem}");
            return 1;
        }

        int Number(int i) => int.Parse(arguments[i], CultureInfo.InvariantCulture);
        foreach (var ours in File.ReadLines(arguments[0]).Select(static l => JsonNode.Parse(l)!))
        {
            var theirs = LlamaTimings.Measure(arguments[1], Number(2), Number(3), Number(4), ours["batch_size"]!.GetValue<int>());
            Console.WriteLine(Line(Path.GetFileNameWithoutExtension(arguments[1]), ours, theirs).ToJsonString());
        }

        return 0;
    }

    private static JsonObject Line(string dtype, JsonNode ours, LlamaTimings theirs)
    {
        var (prompt, decode) = (ours["prompt_tokens_per_second"]!.GetValue<double>(), ours["decode_tokens_per_second"]!.GetValue<double>());
        return new JsonObject
        {
            ["dtype"] = dtype,
            ["batch_size"] = theirs.BatchSize,
            ["prompt_tokens_per_second"] = prompt,
            ["llama_cpp_prompt"] = Math.Round(theirs.PromptTokensPerSecond, 1),
            ["prompt_times_llama_cpp"] = Math.Round(theirs.PromptTokensPerSecond / prompt, 2),
            ["decode_tokens_per_second"] = decode,
            ["llama_cpp_decode"] = Math.Round(theirs.DecodeTokensPerSecond, 1),
            ["decode_times_llama_cpp"] = Math.Round(theirs.DecodeTokensPerSecond / decode, 2),
        };
    }
}
