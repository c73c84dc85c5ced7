using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>A stage that processes whole tokens: parts are joined first.</summary>
internal abstract class WholeTokenStage(DecodeStage next) : DecodeStage
{
    private readonly StringBuilder _parts = new();
    private bool _isOpen;

    /// <summary>The stage after this one.</summary>
    protected DecodeStage NextStage => next;

    public sealed override void Push(string text, bool endsToken)
    {
        if (!endsToken)
        {
            _ = _parts.Append(text);
            _isOpen = true;
            return;
        }

        Token(Whole(text));
    }

    public sealed override void Finish()
    {
        if (_isOpen)
        {
            Token(Whole(""));
        }

        End();
        next.Finish();
    }

    /// <summary>Takes a token.</summary>
    protected abstract void Token(string token);

    /// <summary>No token follows.</summary>
    protected virtual void End()
    {
    }

    private string Whole(string last)
    {
        if (!_isOpen)
        {
            return last;
        }

        var whole = _parts.Append(last).ToString();
        _ = _parts.Clear();
        _isOpen = false;
        return whole;
    }
}
