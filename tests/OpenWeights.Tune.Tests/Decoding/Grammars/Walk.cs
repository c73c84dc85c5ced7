using System.Text;
using NUnit.Framework;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Tests.Decoding.Grammars;

/// <summary>Texts that a constraint lets through.</summary>
internal static class Walk
{
    /// <summary>Chooses allowed tokens at random until the text ends.</summary>
    /// <param name="grammar">The grammar.</param>
    /// <param name="vocabulary">The tokens.</param>
    /// <param name="bytesOf">The bytes of each token.</param>
    /// <param name="end">The end token.</param>
    /// <param name="random">The choice.</param>
    /// <param name="escapes">Whether characters may be written as numbers.</param>
    internal static string Random(Grammar grammar, TokenVocabulary vocabulary, Func<int, byte[]> bytesOf, int end, Random random, bool escapes = true)
    {
        var (constraint, text) = (new GrammarConstraint(grammar, vocabulary, [end]), new List<byte>());
        for (var step = 0; step < 3000; step++)
        {
            var allowed = Allowed(constraint, vocabulary.Size);
            allowed.RemoveAll(t => t != end && !escapes && HasNumber(bytesOf(t)));
            Assert.That(allowed, Is.Not.Empty, $"nothing can follow {Encoding.UTF8.GetString([.. text])}");

            // Otherwise most texts would never end.
            var closing = allowed.Where(t => t == end || bytesOf(t) is [(byte)'"' or (byte)'}' or (byte)']']).ToList();
            var token = closing.Count > 0 && random.NextDouble() < (step < 30 ? 0.3 : 0.9) ? closing[random.Next(closing.Count)] : allowed[random.Next(allowed.Count)];
            constraint.Accept(token);
            if (token == end)
            {
                return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString([.. text]);
            }

            text.AddRange(bytesOf(token));
        }

        Assert.Fail($"a text does not end: {Encoding.UTF8.GetString([.. text])}");
        return "";
    }

    /// <summary>Whether all tokens of a text are allowed, and the end after them.</summary>
    internal static bool Accepts(Grammar grammar, TokenVocabulary vocabulary, IEnumerable<int> tokens, int end)
    {
        var constraint = new GrammarConstraint(grammar, vocabulary, [end]);
        foreach (var token in tokens.Append(end))
        {
            if (!Allowed(constraint, vocabulary.Size).Contains(token))
            {
                return false;
            }

            constraint.Accept(token);
        }

        return true;
    }

    /// <summary>The tokens that a constraint allows.</summary>
    internal static List<int> Allowed(GrammarConstraint constraint, int size)
    {
        var logits = new float[size + 3];
        constraint.Restrict(logits);
        return [.. Enumerable.Range(0, logits.Length).Where(i => !float.IsNegativeInfinity(logits[i]))];
    }

    // A character written as a number, or the backslash that may begin one.
    private static bool HasNumber(byte[] token) => token.AsSpan().IndexOf("\\u"u8) >= 0 || token[^1] == '\\';
}
