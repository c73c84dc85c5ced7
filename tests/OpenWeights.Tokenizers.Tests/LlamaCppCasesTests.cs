using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>llama.cpp's test cases, for every kind of file that holds the same vocabulary.</summary>
public sealed class LlamaCppCasesTests
{
    [TestCase("llama-bpe", "llama-3/tokenizer.json")]
    [TestCase("llama-bpe", "llama-3/tokenizer.model")]
    [TestCase("qwen2", "qwen2")]
    [TestCase("deepseek-r1-qwen", "qwen2")]
    [TestCase("gpt-2", "gpt-2")]
    [TestCase("llama-spm", "llama-2")]
    [TestCase("llama-spm", "tinyllama-1.1b-chat")]
    [TestCase("phi-3", "llama-2/tokenizer.model")]
    [TestCase("phi-3", "phi-3-mini")]
    public void All_cases_equal(string cases, string path)
    {
        var tokenizer = Tokenizer.Load(SharedFiles.Require(["fixtures", "tokenizers", .. path.Split('/')]));
        var inputs = File.ReadAllText(SharedFiles.Require("fixtures", "tokenizer-cases", $"ggml-vocab-{cases}.gguf.inp")).Split("\n__ggml_vocab_test__\n");
        var outputs = File.ReadAllText(SharedFiles.Require("fixtures", "tokenizer-cases", $"ggml-vocab-{cases}.gguf.out")).Split('\n');
        var differences = new List<string>();
        for (var i = 0; i < inputs.Length; i++)
        {
            var wanted = outputs[i].Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse).ToArray();
            var got = tokenizer.Encode(inputs[i], addSpecialTokens: false);
            if (!got.SequenceEqual(wanted))
            {
                differences.Add($"{GoldenCase.Show(inputs[i])}: {GoldenCase.Show(got, tokenizer)} instead of {GoldenCase.Show(wanted, tokenizer)}");
            }
        }

        GoldenCase.ExpectNone(differences);
        Assert.That(inputs, Has.Length.EqualTo(47));
    }
}
