using System.Text;

using FsCheck;
using FsCheck.Fluent;

using NUnit.Framework;

namespace OpenWeights.Tokenizers.Tests;

/// <summary>Properties over generated texts and broken files.</summary>
public sealed class FuzzTests
{
    private static readonly string[] s_bases = ["bytes", "pieces", "unigram"];

    private static readonly Lazy<Tokenizer[]> s_tokenizers = new(() =>
        [.. SmallTokenizers.Cases.Select(c => SmallTokenizers.Load(SmallTokenizers.Changed(c["base"]!.GetValue<string>(), c["change"]!.AsObject())))]);

    [Test]
    public void Any_tokenizer_answers_any_text_with_ids_of_its_vocabulary_and_ranges_of_the_text() =>
        Check(Texts(), text =>
        {
            foreach (var tokenizer in s_tokenizers.Value)
            {
                var spans = tokenizer.EncodeWithOffsets(text, addSpecialTokens: false);
                var areFine = spans.All(s => s.Id >= 0 && s.Id < tokenizer.VocabularySize && s.Start >= 0 && s.Start <= s.End && s.End <= text.Length)
                    && spans.Select(s => s.Id).SequenceEqual(tokenizer.Encode(text, addSpecialTokens: false));
                if (!areFine)
                {
                    return false;
                }

                StreamingDecoderTests.ExpectSame(tokenizer, [.. spans.Select(s => s.Id)]);
            }

            return true;
        }, 60);

    [Test]
    public void A_byte_level_tokenizer_gives_any_text_back() =>
        Check(Texts(), text =>
        {
            var tokenizer = s_tokenizers.Value[0];
            var bytes = SmallTokenizers.Load("bytes");
            var wellFormed = Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));
            return bytes.Decode(bytes.Encode(text, addSpecialTokens: false).AsSpan(), skipSpecialTokens: false) == wellFormed
                && tokenizer.VocabularySize > 0;
        }, 200);

    [TestCaseSource(nameof(s_bases))]
    public void A_file_with_bytes_changed_is_read_or_refused_with_its_name(string name)
    {
        var good = Encoding.UTF8.GetBytes(SmallTokenizers.Json(name).ToJsonString());
        using var folder = new TestFolder();
        var file = Path.Combine(folder.Path, "tokenizer.json");
        Check(Gen.Choose(0, int.MaxValue).ToArbitrary(), seed =>
        {
            File.WriteAllBytes(file, Damage(good, new System.Random(seed)));
            try
            {
                var tokenizer = Tokenizer.Load(file);
                _ = tokenizer.Decode(tokenizer.Encode("The fox’s\n 你好 <s>word 12", addSpecialTokens: true).AsSpan(), skipSpecialTokens: true);
                return true;
            }
            catch (InvalidDataException e)
            {
                return e.Message.StartsWith(file, StringComparison.Ordinal) || e.Message.StartsWith("The text has", StringComparison.Ordinal);
            }
        }, 400);
    }

    [Test]
    public void A_SentencePiece_file_with_bytes_changed_is_read_or_refused_with_its_name()
    {
        using var folder = new TestFolder();
        var file = Path.Combine(folder.Path, "tokenizer.model");
        var good = Encoding.UTF8.GetBytes("\n\x0E\n\x05<unk>\x15\0\0\0\0\x18\x02\n\x0A\n\x01a\x15\0\0\0\x40\x18\x01\n\x0A\n\x01b\x15\0\0\0\x41\x18\x01\x12\x02\x18\x01\x1A\x02\x20\0");
        Check(Gen.Choose(0, int.MaxValue).ToArbitrary(), seed =>
        {
            File.WriteAllBytes(file, Damage(good, new System.Random(seed)));
            try
            {
                _ = Tokenizer.Load(file).Encode("ab ba", addSpecialTokens: true);
                return true;
            }
            catch (InvalidDataException e)
            {
                return e.Message.StartsWith(file, StringComparison.Ordinal) || e.Message.StartsWith("The text has", StringComparison.Ordinal);
            }
        }, 500);
    }

    /// <summary>Checks a property with a fixed seed, so that a failure comes back.</summary>
    private static void Check<T>(Arbitrary<T> values, Func<T, bool> property, int count) =>
        Prop.ForAll(values, property).Check(Config.QuickThrowOnFailure.WithMaxTest(count).WithReplay(20250101UL, 7UL));

    private static Arbitrary<string> Texts()
    {
        var units = Gen.Frequency(
            (6, Gen.Choose(0, 0x7F)), (2, Gen.Choose(0x80, 0x2FF)), (2, Gen.Choose(0x300, 0x36F)), (2, Gen.Choose(0xD800, 0xDFFF)), (2, Gen.Choose(0, 0xFFFF)));
        var raw = units.Select(u => ((char)u).ToString());
        var known = Gen.Elements(" the", "▁", "<s>", "<|end|>", "word", "[ADD]", "  ", "é", "ﬁ", "😀", "你好", "\u1112\u1161\u11AB", "123");
        return Gen.Frequency((3, raw), (1, known)).ListOf().Select(string.Concat).ToArbitrary();
    }

    private static byte[] Damage(byte[] good, System.Random random)
    {
        var bytes = good.ToList();
        for (var i = random.Next(1, 5); i > 0; i--)
        {
            var at = random.Next(bytes.Count);
            switch (random.Next(4))
            {
                case 0:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 1:
                    bytes.RemoveRange(at, Math.Min(random.Next(1, 20), bytes.Count - at));
                    break;
                case 2:
                    bytes.InsertRange(at, bytes.GetRange(at, Math.Min(random.Next(1, 20), bytes.Count - at)));
                    break;
                default:
                    bytes[at] = (byte)"{}[],:\"\\0123456789-e.truefalsn "[random.Next(31)];
                    break;
            }
        }

        return [.. bytes];
    }
}
