using System.Globalization;
using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>
/// "ByteFallback": tokens such as <c>&lt;0xE2&gt;</c> are bytes. A run of them becomes the text that it is in UTF-8 or, where it is
/// malformed anywhere, one U+FFFD for each byte; so nothing of a run is known before it ends.
/// </summary>
internal sealed class ByteFallbackDecoder : TokenDecoder
{
    private static readonly UTF8Encoding s_strict = new(false, throwOnInvalidBytes: true);

    public override DecodeStage Begin(DecodeStage next) => new Stage(next);

    public override byte[]? BytesOf(string token) => Byte(token) is { } value ? [value] : null;

    private static byte? Byte(string token) =>
        token.Length == 6 && token.StartsWith("<0x", StringComparison.Ordinal) && token[5] == '>'
            && byte.TryParse(token.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value) ? value : null;

    private sealed class Stage(DecodeStage next) : WholeTokenStage(next)
    {
        private readonly List<byte> _run = [];

        protected override void Token(string token)
        {
            if (Byte(token) is { } value)
            {
                _run.Add(value);
                return;
            }

            End();
            NextStage.Push(token, endsToken: true);
        }

        protected override void End()
        {
            if (_run.Count == 0)
            {
                return;
            }

            var bytes = _run.ToArray();
            _run.Clear();
            try
            {
                NextStage.Push(s_strict.GetString(bytes), endsToken: true);
            }
            catch (DecoderFallbackException)
            {
                foreach (var _ in bytes)
                {
                    NextStage.Push("\uFFFD", endsToken: true);
                }
            }
        }
    }
}
