using System.Text.Json;

using NUnit.Framework;

using OpenWeights.Testing;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Hugging Face's own answers, for the small tokenizers made for this project and for published ones.</summary>
public sealed class HuggingFaceGoldenTests
{
    private static readonly string[] s_files = [.. SharedFiles.FindFiles("*__*.json", "goldens", "tokenizer").Select(path => Path.GetFileName(path))];

    [TestCaseSource(nameof(s_files))]
    public void Ids_and_decoded_texts_equal_the_references(string golden)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", golden)));
        var tokenizer = Tokenizer.Load(SharedFiles.Require(document.RootElement.GetProperty("tokenizer").GetString()!.Split('/')));
        var differences = new List<string>();
        var cases = document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read).ToArray();
        foreach (var golden1 in cases)
        {
            golden1.Compare(tokenizer, decodesWithSpecial: false, differences);
        }

        GoldenCase.ExpectNone(differences);
        Assert.That(cases, Has.Length.EqualTo(335));
    }

    [TestCaseSource(nameof(s_files))]
    public void A_streamed_decoding_is_the_whole_one_and_never_ends_amid_a_character(string golden)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(SharedFiles.Require("goldens", "tokenizer", golden)));
        var tokenizer = Tokenizer.Load(SharedFiles.Require(document.RootElement.GetProperty("tokenizer").GetString()!.Split('/')));
        foreach (var golden1 in document.RootElement.GetProperty("cases").EnumerateArray().Select(GoldenCase.Read))
        {
            StreamingDecoderTests.ExpectSame(tokenizer, golden1.IdsWithSpecial);
        }
    }
}
