namespace OpenWeights.Tokenizers;

/// <summary>Reads the added tokens of a tokenizer.json and adds those that only tokenizer_config.json has.</summary>
internal static class AddedTokenReader
{
    /// <summary>Reads the tokens.</summary>
    /// <param name="section">The file's <c>added_tokens</c>.</param>
    /// <param name="vocabulary">The model's tokens.</param>
    /// <param name="settings">Settings from the files beside it.</param>
    public static List<AddedToken> Read(JsonSection section, Vocabulary vocabulary, TokenizerSettings settings)
    {
        var tokens = new List<AddedToken>();
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        var next = vocabulary.Count;
        foreach (var element in section.IsNull ? [] : section.Elements())
        {
            var token = ReadToken(element, element["content"].Text(), element["id"].Count());
            if (token.Content.Length == 0)
            {
                continue;
            }

            CheckId(element["id"], token, vocabulary, ids, ref next);
            if (!ids.TryAdd(token.Content, token.Id))
            {
                // The reference takes the flags that come last.
                _ = tokens.RemoveAll(t => t.Content == token.Content);
            }

            tokens.Add(token);
        }

        return WithSettings(tokens, vocabulary, settings, "tokenizer.json");
    }

    /// <summary>The tokens, and those that only tokenizer_config.json has.</summary>
    /// <param name="tokens">The tokens that the tokenizer's own file has.</param>
    /// <param name="vocabulary">The model's tokens.</param>
    /// <param name="settings">Settings from the files beside it.</param>
    /// <param name="file">The file's name, for messages.</param>
    public static List<AddedToken> WithSettings(List<AddedToken> tokens, Vocabulary vocabulary, TokenizerSettings settings, string file)
    {
        var ids = tokens.ToDictionary(t => t.Content, t => t.Id, StringComparer.Ordinal);
        var taken = ids.Values.ToHashSet();
        foreach (var token in settings.AddedTokens)
        {
            if (ids.ContainsKey(token.Content))
            {
                continue;
            }

            var inModel = vocabulary.Find(token.Content);
            if (inModel >= 0 ? inModel != token.Id : vocabulary.Contains(token.Id) || taken.Contains(token.Id))
            {
                throw new InvalidDataException(
                    $"{settings.Source}: added_tokens_decoder.{token.Id}: \"{token.Content}\" does not fit the {file} beside it, "
                    + $"where the id {(inModel >= 0 ? $"of this token is {inModel}" : "belongs to another token")}.");
            }

            tokens.Add(token);
            _ = taken.Add(token.Id);
        }

        return tokens;
    }

    /// <summary>Reads the flags of a token.</summary>
    public static AddedToken ReadToken(JsonSection element, string content, int id)
    {
        if (id > Vocabulary.LargestId)
        {
            throw element.Error($"the id {id} is not in 0..{Vocabulary.LargestId}.");
        }

        var special = element["special"].Flag(false);
        return new AddedToken(content, id)
        {
            SingleWord = element["single_word"].Flag(false),
            StripLeft = element["lstrip"].Flag(false),
            StripRight = element["rstrip"].Flag(false),
            Normalized = element["normalized"].Flag(!special),
            Special = special,
        };
    }

    /// <summary>
    /// The reference ignores a token's written id: it takes the vocabulary's where that has the text, else the next free number. A
    /// file whose ids say something else was never read as it is written, and no answer would be the right one.
    /// </summary>
    private static void CheckId(JsonSection section, AddedToken token, Vocabulary vocabulary, Dictionary<string, int> ids, ref int next)
    {
        if (ids.TryGetValue(token.Content, out var earlier) || (earlier = vocabulary.Find(token.Content)) >= 0)
        {
            if (earlier != token.Id)
            {
                throw section.Error($"the token \"{token.Content}\" has the id {token.Id} here, but {earlier} before; give it one id.");
            }

            return;
        }

        if (vocabulary.Contains(token.Id) || ids.ContainsValue(token.Id))
        {
            throw section.Error($"the id {token.Id} of the token \"{token.Content}\" belongs to another token.");
        }

        if (token.Id != next)
        {
            throw section.Error(
                $"the ids have a hole: the next free id for the token \"{token.Content}\" is {next}, but the file says {token.Id}. "
                + "Hugging Face's library would number it differently from the file; put the token into model.vocab with its id.");
        }

        next++;
    }
}
