using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <summary>The tokens of a template, one after the other.</summary>
internal sealed class TokenStream
{
    private readonly List<Token> tokens;
    private int position;

    /// <exception cref="TemplateFailure">The first of them is an error.</exception>
    public TokenStream(List<Token> tokens)
    {
        this.tokens = tokens;
        _ = Valid(0);
    }

    public Token Current => tokens[position];

    /// <summary>The token after the current one.</summary>
    public Token Ahead => Valid(Math.Min(position + 1, tokens.Count - 1));

    /// <summary>Goes on; the token that was current.</summary>
    public Token Next()
    {
        var token = tokens[position];
        position = Math.Min(position + 1, tokens.Count - 1);
        _ = Valid(position);
        return token;
    }

    public bool SkipOperator(string symbol) => Skip(Current.IsOperator(symbol));

    public bool SkipName(string name) => Skip(Current.IsName(name));

    public Token Expect(TokenKind kind) => Current.Kind == kind ? Next() : throw Unexpected(Token.Describe(kind));

    public void ExpectOperator(string symbol)
    {
        if (!SkipOperator(symbol))
        {
            throw Unexpected(symbol);
        }
    }

    public void ExpectName(string name)
    {
        if (!SkipName(name))
        {
            throw Unexpected(name);
        }
    }

    private Token Valid(int at) => tokens[at].Kind == TokenKind.Error
        ? throw TemplateFailure.Syntax(tokens[at].Text, tokens[at].Line)
        : tokens[at];

    private bool Skip(bool matches)
    {
        if (matches)
        {
            _ = Next();
        }

        return matches;
    }

    private TemplateFailure Unexpected(string expected) => TemplateFailure.Syntax(
        Current.Kind == TokenKind.End
            ? $"unexpected end of template, expected {PyRepr.Quote(expected)}."
            : $"expected token {PyRepr.Quote(expected)}, got {PyRepr.Quote(Current.Description)}",
        Current.Line);
}
