using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>"Strip": strips up to a number of a character from the start and end of each token.</summary>
/// <param name="content">The character.</param>
/// <param name="start">Maximum number at the start.</param>
/// <param name="stop">Maximum number at the end.</param>
internal sealed class StripDecoder(Rune content, int start, int stop) : TokenDecoder
{
    private readonly string _content = content.ToString();

    public override DecodeStage Begin(DecodeStage next) => new Stage(_content, start, stop, next);

    private sealed class Stage(string content, int most, int stop, DecodeStage next) : DecodeStage
    {
        /// <summary>Number of characters that may still be stripped from the start of the current token.</summary>
        private int _startLeft;

        /// <summary>Number of characters at the end so far that may have to be stripped.</summary>
        private int _held;

        private bool _isOpen;

        public override void Push(string text, bool endsToken)
        {
            if (!_isOpen)
            {
                _isOpen = true;
                _startLeft = most;
            }

            var at = 0;
            while (_startLeft > 0 && at < text.Length)
            {
                if (string.CompareOrdinal(text, at, content, 0, content.Length) != 0)
                {
                    _startLeft = 0;
                    break;
                }

                at += content.Length;
                _startLeft--;
            }

            Pass(text[at..]);
            if (endsToken)
            {
                EndToken();
            }
        }

        public override void Finish()
        {
            if (_isOpen)
            {
                EndToken();
            }

            next.Finish();
        }

        private void Pass(string text)
        {
            if (stop == 0)
            {
                Emit(text);
                return;
            }

            var end = text.Length;
            var trailing = 0;
            while (end >= content.Length && string.CompareOrdinal(text, end - content.Length, content, 0, content.Length) == 0)
            {
                end -= content.Length;
                trailing++;
            }

            if (end > 0)
            {
                Emit(Repeat(_held) + text[..end]);
                _held = 0;
            }

            _held += trailing;
            if (_held > stop)
            {
                Emit(Repeat(_held - stop));
                _held = stop;
            }
        }

        private void EndToken()
        {
            next.Push("", endsToken: true);
            _held = 0;
            _isOpen = false;
        }

        private void Emit(string text)
        {
            if (text.Length > 0)
            {
                next.Push(text, endsToken: false);
            }
        }

        private string Repeat(int count) => new StringBuilder().Insert(0, content, count).ToString();
    }
}
