using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>
/// Every component of a tokenizer.json, alone and together, on a small tokenizer: Hugging Face's answers (tests/fixtures/tokenizers/components.json).
/// </summary>
public sealed class ComponentTests
{
    private static IEnumerable<TestCaseData> Cases() =>
        SmallTokenizers.Cases.Select(c => new TestCaseData(c).SetArgDisplayNames($"{c["base"]}: {c["name"]}"));

    [TestCaseSource(nameof(Cases))]
    public void Ids_and_decoded_texts_equal_the_references(JsonObject component)
    {
        var tokenizer = SmallTokenizers.Load(SmallTokenizers.Changed(component["base"]!.GetValue<string>(), component["change"]!.AsObject()));
        var differences = new List<string>();
        foreach (var answer in component["answers"]!.AsArray())
        {
            var element = answer!.Deserialize<JsonElement>();
            GoldenCase.Read(element).Compare(tokenizer, decodesWithSpecial: true, differences);
            if (element.TryGetProperty("random", out var random))
            {
                var ids = GoldenCase.Ints(random);
                var decoded = tokenizer.Decode(ids.AsSpan(), skipSpecialTokens: false);
                if (decoded != element.GetProperty("random_decoded").GetString())
                {
                    differences.Add($"decoded {GoldenCase.Show(ids, tokenizer)}: {GoldenCase.Show(decoded)} instead of {element.GetProperty("random_decoded")}");
                }

                StreamingDecoderTests.ExpectSame(tokenizer, ids);
            }
        }

        GoldenCase.ExpectNone(differences);
    }

    // Where characters vanish without a token, the reference's ranges are off by them.
    private static IEnumerable<TestCaseData> CasesWithRanges() => Cases().Where(static test =>
    {
        var component = (JsonObject)test.Arguments[0]!;
        var name = component["name"]!.GetValue<string>();
        var isWithoutBytes = component["base"]!.GetValue<string>() == "bytes" && component["change"]!["pre_tokenizer"] is { } step
            && !step.ToJsonString().Contains("ByteLevel", StringComparison.Ordinal);
        return !isWithoutBytes && !name.Contains("unk_token", StringComparison.Ordinal) && !name.Contains("suffix", StringComparison.Ordinal);
    });

    [TestCaseSource(nameof(CasesWithRanges))]
    public void Ranges_equal_the_references_or_hold_them(JsonObject component)
    {
        var name = component["name"]!.GetValue<string>();
        var tokenizer = SmallTokenizers.Load(SmallTokenizers.Changed(component["base"]!.GetValue<string>(), component["change"]!.AsObject()));
        var differences = new List<string>();
        foreach (var answer in component["answers"]!.AsArray().Where(a => a!["offsets"] is not null))
        {
            CompareRanges(tokenizer, answer!["text"]!.GetValue<string>(), [.. answer["offsets"]!.AsArray().Select(o => o!.GetValue<int>())], name, differences);
        }

        GoldenCase.ExpectNone(differences);
    }

    private static void CompareRanges(Tokenizer tokenizer, string text, int[] offsets, string name, List<string> differences)
    {
        var units = UnitsOfCharacters(text);
        var spans = tokenizer.EncodeWithOffsets(text, addSpecialTokens: false, trimOffsets: true);
        var mayBeWider = name.StartsWith("normalizer", StringComparison.Ordinal);
        for (var i = 0; i < spans.Count; i++)
        {
            var (start, end) = (units[offsets[i * 2]], units[offsets[(i * 2) + 1]]);
            var isSame = spans[i].Start == start && spans[i].End == end;
            if (!isSame && !(mayBeWider && spans[i].Start <= start && spans[i].End >= end))
            {
                differences.Add($"token {i} ({tokenizer.IdToToken(spans[i].Id)}) of {GoldenCase.Show(text)}: {spans[i].Start}-{spans[i].End} instead of {start}-{end}");
            }
        }
    }

    /// <summary>The reference counts code points; here UTF-16 units count.</summary>
    private static List<int> UnitsOfCharacters(string text)
    {
        var units = new List<int> { 0 };
        foreach (Rune rune in text.EnumerateRunes())
        {
            units.Add(units[^1] + rune.Utf16SequenceLength);
        }

        return units;
    }
}
