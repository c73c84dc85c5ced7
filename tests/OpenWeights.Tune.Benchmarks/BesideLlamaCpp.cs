using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.LlamaCpp;

namespace OpenWeights.Tune.Benchmarks;

/// <summary>
/// llama.cpp's generation beside ours: llama-cpp NAME OURS MODEL.gguf PROMPT NEW THREADS, where OURS is what <c>owt bench generate</c> printed; and
/// llama-cpp-medians FILE, the table of such lines.
/// </summary>
internal static class BesideLlamaCpp
{
    private const string Batch = "batch_size";
    private const string OurPrompt = "prompt_tokens_per_second";
    private const string OurDecode = "decode_tokens_per_second";
    private const string TheirPrompt = "llama_cpp_prompt";
    private const string TheirDecode = "llama_cpp_decode";
    private const string Memory = "peak_memory_bytes";

    /// <summary>Measures each batch size of ours in llama.cpp too, and prints a JSON line with both.</summary>
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
        foreach (var ours in File.ReadLines(arguments[1]).Select(static l => JsonNode.Parse(l)!.AsObject()))
        {
            var theirs = LlamaTimings.Measure(arguments[2], Number(3), Number(4), Number(5), ours[Batch]!.GetValue<int>());
            ours["name"] = arguments[0];
            ours[TheirPrompt] = Math.Round(theirs.PromptTokensPerSecond, 1);
            ours[TheirDecode] = Math.Round(theirs.DecodeTokensPerSecond, 1);
            Console.WriteLine(ours.ToJsonString());
        }

        return 0;
    }

    /// <summary>
    /// Measures each number of clients of ours in llama.cpp's library too, and prints lines of a table with both: OURS MODEL.gguf REQUESTS NEW THREADS, where
    /// OURS is what <c>owt bench serve</c> printed.
    /// </summary>
    /// <param name="arguments">The words behind <c>llama-cpp-serve</c>.</param>
    /// <returns>0, or 1 where llama.cpp cannot be loaded.</returns>
    internal static int Serve(string[] arguments)
    {
        if (LlamaLibrary.Problem is { } problem)
        {
            Console.Error.WriteLine($"error: llama.cpp is not here: {problem}");
            return 1;
        }

        int Number(int i) => int.Parse(arguments[i], CultureInfo.InvariantCulture);
        var name = Path.GetFileName(arguments[1]);
        foreach (var ours in File.ReadLines(arguments[0]).Select(static l => JsonNode.Parse(l)!))
        {
            var clients = ours["clients"]!.GetValue<int>();
            var theirs = LlamaServing.Measure(arguments[1], clients, Number(2), Number(3), Number(4));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| llama.cpp's library without HTTP, {name} | {clients} | {theirs.TokensPerSecond:F1} | {theirs.FirstTokenMedian:F3} | | {theirs.AnswerMedian:F2} |"));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| owt / llama.cpp's library | {clients} | {ours["tokens_per_second"]!.GetValue<double>() / theirs.TokensPerSecond:F2} | | | |"));
        }

        return 0;
    }

    /// <summary>Prints a table of medians of lines that <see cref="Run"/> printed.</summary>
    /// <param name="path">The file with the lines.</param>
    internal static int Medians(string path)
    {
        Console.WriteLine("| weights | texts | prompt, tokens/s | llama.cpp | ours / theirs | decode, tokens/s | llama.cpp | ours / theirs | peak, MB |");
        Console.WriteLine("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        foreach (var row in File.ReadLines(path).Select(static l => JsonNode.Parse(l)!).GroupBy(static l => (Name: l["name"]!.GetValue<string>(), Batch: l[Batch]!.GetValue<int>())))
        {
            var numbers = new[] { OurPrompt, TheirPrompt, OurDecode, TheirDecode, Memory }.Select(key => Median(row.Select(l => l[key]!.GetValue<double>()))).ToList();
            Console.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"| {row.Key.Name} | {row.Key.Batch} | {numbers[0]:F0} | {numbers[1]:F0} | {numbers[0] / numbers[1]:F2} | {numbers[2]:F1} | {numbers[3]:F1} | {numbers[2] / numbers[3]:F2} | {numbers[4] / 1e6:F0} |"));
        }

        return 0;
    }

    private static double Median(IEnumerable<double> values)
    {
        var sorted = values.Order().ToList();
        return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }
}
