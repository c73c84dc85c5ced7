using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Creates a tokenizer from a SentencePiece model and its folder's settings.</summary>
internal static class SentencePieceLoader
{
    /// <summary>Reads the file.</summary>
    public static (TokenizerParts Parts, TokenizerSettings Settings) Read(string file, byte[] bytes, TokenizerSettings settings)
    {
        SentencePieceModel model;
        try
        {
            model = SentencePieceModel.Parse(bytes);
        }
        catch (FormatException e)
        {
            throw new InvalidDataException($"{file}: not a SentencePiece model: {e.Message}.", e);
        }

        if (model.TreatsWhitespaceAsSuffix || !model.EscapesWhitespaces || model.ModelType is not (1 or 2))
        {
            throw new InvalidDataException(
                $"{file}: the SentencePiece model uses an option that is not supported (treat_whitespace_as_suffix, escape_whitespaces off, or a model of words or characters).");
        }

        var vocabulary = ReadVocabulary(file, model);
        var parts = model.ModelType == 2 ? MakeBpe(file, model, vocabulary, settings) : MakeUnigram(file, model, vocabulary, settings);
        var added = AddedTokens(file, model, vocabulary, settings);
        int Id(string? token, int own) => token is null ? own : added.FirstOrDefault(t => t.Content == token)?.Id ?? (vocabulary.Find(token) is >= 0 and var id ? id : own);
        return (parts with
        {
            AddedTokens = added,
            PostProcessor = MakePostProcessor(Id(settings.BosToken, model.BosId), Id(settings.EosToken, model.EosId), model, settings),
        }, WithSpecialTokens(model, settings));
    }

    private static Vocabulary ReadVocabulary(string file, SentencePieceModel model)
    {
        var vocabulary = new Vocabulary(model.Pieces.Count, model.Pieces.Count * 8);
        for (var id = 0; id < model.Pieces.Count; id++)
        {
            if (vocabulary.TryAdd(Encoding.UTF8.GetBytes(model.Pieces[id].Text), id) is { } problem)
            {
                throw new InvalidDataException($"{file}: pieces[{id}]: {problem}.");
            }
        }

        return vocabulary;
    }

    private static TokenizerParts MakeBpe(string file, SentencePieceModel model, Vocabulary vocabulary, TokenizerSettings settings)
    {
        if (model.Pieces.Any(p => p.Type == PieceType.Unused))
        {
            throw new InvalidDataException($"{file}: the BPE model has unused pieces, which is not supported.");
        }

        var userDefined = new AddedTokenMatcher(Pieces(model, PieceType.UserDefined).Select(p => (p.Piece.Text, new AddedToken(p.Piece.Text, p.Id))));
        var options = new BpeOptions
        {
            UnknownToken = model.Pieces.FirstOrDefault(p => p.Type == PieceType.Unknown).Text,
            FuseUnknown = true,
            ByteFallback = model.Pieces.Any(p => p.Type == PieceType.Byte),
        };
        var pairs = MakePairs(model, vocabulary);

        // The newer behaviour puts the prefix only before a text's first words, not after every special token.
        var prefixesFirstOnly = model.AddsDummyPrefix && settings.Legacy == false;
        var addsPrefix = settings.AddPrefixSpace ?? model.AddsDummyPrefix;
        var normalizer = new SentencePieceNormalizer(
            ReadMap(file, model), userDefined, addsPrefix && !prefixesFirstOnly, model.RemovesExtraWhitespaces);
        return new TokenizerParts
        {
            Model = new BpeModel(vocabulary, pairs, options, userDefined),
            Normalizers = new NormalizerChain([normalizer]),
            PreTokenizers = addsPrefix && prefixesFirstOnly
                ? [new MetaspacePreTokenizer(SentencePieceNormalizer.Mark, PrependScheme.First, split: false)]
                : [],
            Decoders =
            [
                new MapDecoder((token, _) => token.Replace(SentencePieceNormalizer.Mark, " ", StringComparison.Ordinal)),
                new ByteFallbackDecoder(),
                new FuseDecoder(),
                .. addsPrefix ? [new StripDecoder(new Rune(' '), 1, 0)] : Array.Empty<TokenDecoder>(),
            ],
        };
    }

    /// <summary>
    /// Any two neighbours that together are a piece merge, those of the best score first. So all cuts of a piece in two are merges,
    /// and pieces of one score have one rank.
    /// </summary>
    private static PairTable MakePairs(SentencePieceModel model, Vocabulary vocabulary)
    {
        var merges = new List<(int Left, int Right, int Merged)>();
        // Where no piece has a length, no cut can leave a piece of it; else a long piece would take the square of its length.
        var lengths = Pieces(model, PieceType.Normal).Select(static p => p.Piece.Text.Length).ToHashSet();
        foreach (var (piece, id) in Pieces(model, PieceType.Normal))
        {
            foreach (var cut in CutsOf(piece.Text.Length, lengths))
            {
                if (char.IsLowSurrogate(piece.Text[cut]))
                {
                    continue;
                }

                var left = vocabulary.Find(piece.Text.AsSpan(0, cut));
                var right = left < 0 ? -1 : vocabulary.Find(piece.Text.AsSpan(cut));
                if (right >= 0 && model.Pieces[left].Type == PieceType.Normal && model.Pieces[right].Type == PieceType.Normal)
                {
                    merges.Add((left, right, id));
                }
            }
        }

        var ranks = merges.Select(m => model.Pieces[m.Merged].Score).Distinct().OrderDescending()
            .Select((score, rank) => (score, rank)).ToDictionary(p => p.score, p => p.rank);
        var pairs = new PairTable(merges.Count);
        foreach (var (left, right, merged) in merges)
        {
            pairs.Add(left, right, merged);
        }

        return pairs.Complete([.. merges.Select(m => ranks[model.Pieces[m.Merged].Score])]);
    }

    /// <summary>The places at which a text falls into two parts whose lengths are among some, in order.</summary>
    /// <param name="length">The text's length.</param>
    /// <param name="lengths">The lengths.</param>
    internal static IEnumerable<int> CutsOf(int length, HashSet<int> lengths) => lengths.Count < length
        ? lengths.Where(cut => cut > 0 && cut < length && lengths.Contains(length - cut)).Order()
        : Enumerable.Range(1, Math.Max(0, length - 1)).Where(cut => lengths.Contains(cut) && lengths.Contains(length - cut));

    private static TokenizerParts MakeUnigram(string file, SentencePieceModel model, Vocabulary vocabulary, TokenizerSettings settings)
    {
        var best = Pieces(model, PieceType.Normal).Select(p => (double)p.Piece.Score).DefaultIfEmpty(0).Max();
        var scores = model.Pieces.Select(p => p.Type == PieceType.UserDefined
            ? (Encoding.UTF8.GetByteCount(p.Text) * best) - 0.1
            : SerdeNumber.Parse(Encoding.ASCII.GetBytes(((double)p.Score).ToString("R", CultureInfo.InvariantCulture)))).ToArray();
        var userDefined = new AddedTokenMatcher(Pieces(model, PieceType.UserDefined).Select(p => (p.Piece.Text, new AddedToken(p.Piece.Text, p.Id))));
        var scheme = !(settings.AddPrefixSpace ?? model.AddsDummyPrefix) ? PrependScheme.Never
            : settings.Legacy == false ? PrependScheme.First
            : PrependScheme.Always;
        return new TokenizerParts
        {
            Model = new UnigramModel(
                vocabulary, scores, model.UnknownId, model.Pieces.Any(p => p.Type == PieceType.Byte),
                id => model.Pieces[id].Type is PieceType.Normal or PieceType.UserDefined),
            Normalizers = new NormalizerChain([new SentencePieceNormalizer(ReadMap(file, model), userDefined, false, model.RemovesExtraWhitespaces)]),
            PreTokenizers = [new MetaspacePreTokenizer(SentencePieceNormalizer.Mark, scheme, split: true)],
            Decoders = [new MapDecoder((token, index) => token.Replace(
                SentencePieceNormalizer.Mark, index == 0 && scheme != PrependScheme.Never ? "" : " ", StringComparison.Ordinal))],
        };
    }

    private static CharacterMap? ReadMap(string file, SentencePieceModel model) =>
        model.CharacterMap.Length == 0 ? null
        : CharacterMap.TryRead(model.CharacterMap) ?? throw new InvalidDataException($"{file}: normalizer_spec.precompiled_charsmap is malformed.");

    private static IEnumerable<(SentencePiece Piece, int Id)> Pieces(SentencePieceModel model, PieceType type) =>
        model.Pieces.Select((piece, id) => (piece, id)).Where(p => p.piece.Type == type);

    /// <summary>Control pieces are found in the text, as the tokenizers that read this file do.</summary>
    private static List<AddedToken> AddedTokens(string file, SentencePieceModel model, Vocabulary vocabulary, TokenizerSettings settings)
    {
        var tokens = Pieces(model, PieceType.Control).Concat(Pieces(model, PieceType.Unknown)).OrderBy(p => p.Id)
            .Select(p => new AddedToken(p.Piece.Text, p.Id) { Special = true }).ToList();
        if (settings.TokenizerClass == "T5Tokenizer")
        {
            var count = settings.ExtraIds ?? 100;
            tokens.AddRange(Enumerable.Range(0, count).Select(i =>
                new AddedToken($"<extra_id_{i}>", model.Pieces.Count + count - 1 - i) { Special = true }));
        }

        return AddedTokenReader.WithSettings(tokens, vocabulary, settings, Path.GetFileName(file));
    }

    private static PostProcessor MakePostProcessor(int bos, int eos, SentencePieceModel model, TokenizerSettings settings)
    {
        var addsBos = settings.AddBosToken ?? model.BosId >= 0;
        var addsEos = settings.AddEosToken ?? (model.BosId < 0 && model.EosId >= 0);
        int?[] pieces =
        [
            .. addsBos && bos >= 0 ? [bos] : Array.Empty<int?>(),
            null,
            .. addsEos && eos >= 0 ? [eos] : Array.Empty<int?>(),
        ];
        return new PostProcessor(pieces, null);
    }

    private static TokenizerSettings WithSpecialTokens(SentencePieceModel model, TokenizerSettings settings)
    {
        var special = new Dictionary<string, string>(settings.SpecialTokens);
        foreach (var (name, id) in new[] { ("bos_token", model.BosId), ("eos_token", model.EosId), ("pad_token", model.PadId), ("unk_token", model.UnknownId) })
        {
            if (id >= 0 && id < model.Pieces.Count)
            {
                _ = special.TryAdd(name, model.Pieces[id].Text);
            }
        }

        return settings with { SpecialTokens = special };
    }
}
