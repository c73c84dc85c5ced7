using System.Runtime.CompilerServices;

namespace OpenWeights.Tokenizers;

/// <summary>Reads vocabularies from JSON.</summary>
internal static class VocabularyReader
{
    /// <summary>Reads an object of tokens and ids.</summary>
    /// <param name="cursor">Stands at the object.</param>
    /// <param name="error">Makes the error for a sentence.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Vocabulary ReadObject(ref JsonCursor cursor, Func<string, InvalidDataException> error)
    {
        if (!cursor.TryTake('{'))
        {
            throw error("must be an object of tokens and their ids.");
        }

        var vocabulary = Empty(cursor);
        var largest = Tokenizers.Vocabulary.LargestIdIn(cursor.Length);
        for (var isFirst = true; cursor.Next('}', ref isFirst);)
        {
            var token = cursor.TakeString();
            cursor.Take(':');
            if (!cursor.TryTakeInteger(out var id))
            {
                throw error($"the id of the token {Tokenizers.Vocabulary.Show(token)} must be a whole number.");
            }

            if (id > largest)
            {
                throw error($"the id {id} of the token {Tokenizers.Vocabulary.Show(token)} leaves more holes than a vocabulary in a file of {cursor.Length} bytes can have.");
            }

            if (vocabulary.TryAdd(token, id) is { } problem)
            {
                throw error(problem + ".");
            }
        }

        return vocabulary;
    }

    // A token takes at least a dozen bytes of the file or so.
    private static Vocabulary Empty(JsonCursor cursor) => new(Math.Min(1 << 15, cursor.Length / 16), Math.Min(1 << 18, cursor.Length));

    /// <summary>Reads an array of tokens and scores; a token's id is its place.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static (Vocabulary Vocabulary, double[] Scores) ReadScored(ref JsonCursor cursor, Func<string, InvalidDataException> error)
    {
        if (!cursor.TryTake('['))
        {
            throw error("must be an array of [token, score] pairs.");
        }

        var vocabulary = Empty(cursor);
        var scores = new List<double>();
        for (var isFirst = true; cursor.Next(']', ref isFirst);)
        {
            if (!cursor.TryTake('[') || cursor.Peek() != (byte)'"')
            {
                throw error($"entry {scores.Count} must be [token, score].");
            }

            vocabulary.AddOrReplace(cursor.TakeString(), scores.Count);
            var score = cursor.TryTake(',') ? cursor.TakeNumber() : default;
            if (score.IsEmpty || !cursor.TryTake(']'))
            {
                throw error($"entry {scores.Count} must be [token, score].");
            }

            scores.Add(SerdeNumber.Parse(score));
        }

        return (vocabulary, [.. scores]);
    }
}
