using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>Type of a piece of a SentencePiece model.</summary>
internal enum PieceType
{
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// <summary>A piece of a SentencePiece model; its id is its place.</summary>
internal readonly record struct SentencePiece(string Text, float Score, PieceType Type);

/// <summary>A SentencePiece model file (google/sentencepiece, sentencepiece_model.proto), as far as encoding and decoding need it.</summary>
internal sealed class SentencePieceModel
{
    /// <summary>The pieces.</summary>
    public List<SentencePiece> Pieces { get; } = [];

    /// <summary>1 for Unigram, 2 for BPE.</summary>
    public int ModelType { get; private set; } = 1;

    public bool TreatsWhitespaceAsSuffix { get; private set; }

    public int UnknownId { get; private set; }

    public int BosId { get; private set; } = 1;

    public int EosId { get; private set; } = 2;

    public int PadId { get; private set; } = -1;

    public byte[] CharacterMap { get; private set; } = [];

    public bool AddsDummyPrefix { get; private set; } = true;

    public bool RemovesExtraWhitespaces { get; private set; } = true;

    public bool EscapesWhitespaces { get; private set; } = true;

    /// <summary>Reads a model.</summary>
    /// <exception cref="FormatException">The bytes are no such model.</exception>
    public static SentencePieceModel Parse(ReadOnlySpan<byte> bytes)
    {
        var model = new SentencePieceModel();
        var reader = new ProtobufReader(bytes);
        while (reader.MoveNext())
        {
            switch (reader.Field)
            {
                case 1:
                    model.Pieces.Add(ParsePiece(reader.Bytes));
                    break;
                case 2:
                    model.ParseTrainer(reader.Bytes);
                    break;
                case 3:
                    model.ParseNormalizer(reader.Bytes);
                    break;
            }
        }

        return model.Pieces.Count > 0 ? model : throw new FormatException("the model has no pieces");
    }

    private static SentencePiece ParsePiece(ReadOnlySpan<byte> bytes)
    {
        var text = "";
        var score = 0f;
        var type = PieceType.Normal;
        var reader = new ProtobufReader(bytes);
        while (reader.MoveNext())
        {
            switch (reader.Field)
            {
                case 1:
                    text = Encoding.UTF8.GetString(reader.Bytes);
                    break;
                case 2:
                    score = reader.Float;
                    break;
                case 3:
                    type = (PieceType)(int)reader.Number;
                    break;
            }
        }

        return new SentencePiece(text, score, type);
    }

    private void ParseTrainer(ReadOnlySpan<byte> bytes)
    {
        var reader = new ProtobufReader(bytes);
        while (reader.MoveNext())
        {
            switch (reader.Field)
            {
                case 3:
                    ModelType = (int)reader.Number;
                    break;
                case 24:
                    TreatsWhitespaceAsSuffix = reader.Flag;
                    break;
                case 40:
                    UnknownId = (int)reader.Number;
                    break;
                case 41:
                    BosId = (int)reader.Number;
                    break;
                case 42:
                    EosId = (int)reader.Number;
                    break;
                case 43:
                    PadId = (int)reader.Number;
                    break;
            }
        }
    }

    private void ParseNormalizer(ReadOnlySpan<byte> bytes)
    {
        var reader = new ProtobufReader(bytes);
        while (reader.MoveNext())
        {
            switch (reader.Field)
            {
                case 2:
                    CharacterMap = reader.Bytes.ToArray();
                    break;
                case 3:
                    AddsDummyPrefix = reader.Flag;
                    break;
                case 4:
                    RemovesExtraWhitespaces = reader.Flag;
                    break;
                case 5:
                    EscapesWhitespaces = reader.Flag;
                    break;
            }
        }
    }
}
