using System.Buffers.Binary;
using System.Text;

namespace OpenWeights.Formats.Gguf;

/// <summary>
/// Stores the tokens of a GGUF file of kind llama in a SentencePiece model
/// (<see href="https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto"/>), whose BPE is what llama.cpp uses for
/// them.
/// </summary>
internal static class SentencePieceFile
{
    private const int Control = 3;
    private const int Unused = 5;
    private const int Bpe = 2;

    public static byte[] Make(GgufMetadata metadata, IReadOnlyList<string> tokens, IReadOnlyList<int> types)
    {
        var scores = metadata.List<float>("tokenizer.ggml.scores") ?? throw metadata.Error("tokenizer.ggml.scores", "this key is missing.");
        if (scores.Count != tokens.Count)
        {
            throw metadata.Error("tokenizer.ggml.scores", $"there are {scores.Count} scores for {tokens.Count} tokens.");
        }

        // Padding rows of the embedding are not tokens.
        var count = tokens.Count;
        while (count > 0 && types[count - 1] == Unused)
        {
            count--;
        }

        using var file = new MemoryStream();
        for (var id = 0; id < count; id++)
        {
            Field(file, 1, Piece(tokens[id], scores[id], types[id] == Unused ? Control : types[id]));
        }

        Field(file, 2, Trainer(metadata, count));
        Field(file, 3, Normalizer(metadata));
        return file.ToArray();
    }

    private static byte[] Piece(string text, float score, int type)
    {
        using var piece = new MemoryStream();
        Field(piece, 1, Encoding.UTF8.GetBytes(text));
        Number(piece, (2 << 3) | 5);
        Span<byte> bits = stackalloc byte[4];
        BinaryPrimitives.WriteSingleLittleEndian(bits, score);
        piece.Write(bits);
        Field(piece, 3, type);
        return piece.ToArray();
    }

    private static byte[] Trainer(GgufMetadata metadata, int tokens)
    {
        using var trainer = new MemoryStream();
        Field(trainer, 3, Bpe);
        foreach (var (field, name) in new[] { (40, "unknown"), (41, "bos"), (42, "eos"), (43, "padding") })
        {
            Field(trainer, field, GgufTokenizer.Id(metadata, name) is { } id && id < tokens ? id : -1);
        }

        return trainer.ToArray();
    }

    private static byte[] Normalizer(GgufMetadata metadata)
    {
        using var normalizer = new MemoryStream();
        Field(normalizer, 3, metadata.Flag("tokenizer.ggml.add_space_prefix") == false ? 0 : 1);
        Field(normalizer, 4, metadata.Flag("tokenizer.ggml.remove_extra_whitespaces") == true ? 1 : 0);
        Field(normalizer, 5, 1);
        return normalizer.ToArray();
    }

    private static void Field(MemoryStream stream, int field, byte[] bytes)
    {
        Number(stream, (ulong)((field << 3) | 2));
        Number(stream, (ulong)bytes.Length);
        stream.Write(bytes);
    }

    private static void Field(MemoryStream stream, int field, int value)
    {
        Number(stream, (ulong)(field << 3));
        Number(stream, (ulong)(long)value);
    }

    private static void Number(MemoryStream stream, ulong value)
    {
        for (; value >= 0x80; value >>= 7)
        {
            stream.WriteByte((byte)(value | 0x80));
        }

        stream.WriteByte((byte)value);
    }
}
