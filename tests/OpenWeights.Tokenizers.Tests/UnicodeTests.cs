using System.Security.Cryptography;
using System.Text;

using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>
/// What is done to, and known of, every single character: a hash over all of Unicode (and over 100,000 sequences of hard characters)
/// equals the hash of what Hugging Face tokenizers 0.23.2 makes of it.
/// </summary>
public sealed class UnicodeTests
{
    [TestCase("NFC", "d57650bcd93cb1f18821044f907c24fa789c64edd38f9aa12e2185dc356d8cec")]
    [TestCase("NFD", "afea06259831bebf4528c19ef2e555b829091baa288ad83c5fd9a923d9d24af7")]
    [TestCase("NFKC", "cf52db491d6d3857dff41d437d2a9490ebf422080651cae926716640e495e23d")]
    [TestCase("NFKD", "d44512f48d76d56fd3b3925c115ae233aa5b196a95c941f462a95c68e91cd386")]
    [TestCase("Lowercase", "21f8f033968695e266a7acf6d9d9e50ce75fc12fffe59107ee4cd779fbaf0b72")]
    [TestCase("StripAccents", "12729129f929e5a994ba4e2e39d2161bdb0bafdfaa6b501669b548e3130e8de7")]
    [TestCase("Nmt", "bb7352d13e252f184324d15b2e82994241219ae7f763a9f5d97fc99867a90483")]
    public void A_normalizer_does_to_all_characters_what_the_reference_does(string type, string hash)
    {
        using var json = System.Text.Json.JsonDocument.Parse($"{{\"type\": \"{type}\"}}");
        var normalizer = new NormalizerChain(NormalizerReader.Read(new JsonSection(json.RootElement, "test", "normalizer")));
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var state = new EncodeState();
        foreach (var text in Characters().Concat(Sequences()))
        {
            var isChanged = normalizer.Apply(new SourceText(text, default, default, 0), state, aligned: false);
            sha.AppendData(state.Utf8(isChanged ? state.Front.Chars : text));
            sha.AppendData("\n"u8);
        }

        Assert.That(Convert.ToHexStringLower(sha.GetHashAndReset()), Is.EqualTo(hash));
    }

    [TestCase("Punctuation", "83d6c3182dadf5cc1d3bb6f82c06b1ae086f54c405d602682012d484c290e7bd")]
    [TestCase("Whitespace", "2d00b4c69e7e962b3d0dc5f91f998bd170c271f004952db336bc657a11f15004")]
    [TestCase("WhitespaceSplit", "96fa66d45fdde4e65a8cf1d16a0f2b2703f1f6438b07955661e584e36b154dfe")]
    [TestCase("Digits", "72dc3aa9bf8c53e37cd1dd9d12ae73b64c47d6407db3c0478c19d86c6855a605")]
    public void A_pre_tokenizer_cuts_at_the_characters_that_the_reference_cuts_at(string type, string hash)
    {
        using var json = System.Text.Json.JsonDocument.Parse($"{{\"type\": \"{type}\", \"behavior\": \"Isolated\", \"individual_digits\": true}}");
        var step = PreTokenizerReader.Read(new JsonSection(json.RootElement, "test", "pre_tokenizer"))[0];
        var pieces = new PreTokenizedText();
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var character in Characters())
        {
            var text = $"a{character}a";
            pieces.Load(new SourceText(text, default, default, 0), 0, text.Length, aligned: false);
            step.Apply(pieces);
            sha.AppendData([(byte)('0' + pieces.Pieces.Count)]);
        }

        Assert.That(Convert.ToHexStringLower(sha.GetHashAndReset()), Is.EqualTo(hash));
    }

    private static IEnumerable<string> Characters() =>
        Enumerable.Range(0, 0x110000).Where(c => c is < 0xD800 or > 0xDFFF).Select(char.ConvertFromUtf32);

    private static IEnumerable<string> Sequences()
    {
        (int From, int To)[] ranges =
        [
            (0x300, 0x370), (0x41, 0x7B), (0xC0, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00), (0x1100, 0x1200), (0x1E00, 0x2000),
            (0x3040, 0x3100), (0xAC00, 0xAD00), (0xF900, 0xFA6E), (0xFF00, 0xFFF0), (0x1D15E, 0x1D1C0), (0x11080, 0x110C0),
        ];
        var pool = ranges.SelectMany(r => Enumerable.Range(r.From, r.To - r.From)).ToArray();
        var state = 1;
        for (var i = 0; i < 100_000; i++)
        {
            var text = new StringBuilder();
            for (var j = 0; j < 6; j++)
            {
                state = unchecked((state * 1103515245) + 12345) & 0x7FFFFFFF;
                _ = text.Append(char.ConvertFromUtf32(pool[(state >>> 8) % pool.Length]));
            }

            yield return text.ToString();
        }
    }
}
