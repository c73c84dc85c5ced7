using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// "ByteLevel": the bytes that the tokens' characters stand for, read as UTF-8; each longest malformed sequence becomes U+FFFD. A
/// token with a character outside the alphabet stands for its own UTF-8.
/// </summary>
internal sealed class ByteLevelDecoder : TokenDecoder
{
    public override DecodeStage Begin(DecodeStage next) => new Stage(next);

    public override byte[] BytesOf(string token)
    {
        var values = token.Select(ByteLevelAlphabet.ByteOf).ToArray();
        return Array.Exists(values, static v => v < 0) ? Encoding.UTF8.GetBytes(token) : [.. values.Select(static v => (byte)v)];
    }

    private sealed class Stage(DecodeStage next) : WholeTokenStage(next)
    {
        private readonly Decoder _decoder = new UTF8Encoding(false, false).GetDecoder();
        private byte[] _bytes = new byte[64];
        private char[] _chars = new char[64];

        protected override void Token(string token)
        {
            if (token.Length > _bytes.Length)
            {
                _bytes = new byte[token.Length * 2];
            }

            for (var i = 0; i < token.Length; i++)
            {
                var value = ByteLevelAlphabet.ByteOf(token[i]);
                if (value < 0)
                {
                    Decode(Encoding.UTF8.GetBytes(token), flush: false);
                    return;
                }

                _bytes[i] = (byte)value;
            }

            Decode(_bytes.AsSpan(0, token.Length), flush: false);
        }

        protected override void End()
        {
            Decode([], flush: true);
            NextStage.Push("", endsToken: true);
        }

        private void Decode(ReadOnlySpan<byte> bytes, bool flush)
        {
            if (_chars.Length < bytes.Length + 4)
            {
                _chars = new char[(bytes.Length * 2) + 4];
            }

            var count = _decoder.GetChars(bytes, _chars, flush);
            if (count > 0)
            {
                NextStage.Push(new string(_chars, 0, count), endsToken: false);
            }
        }
    }
}
