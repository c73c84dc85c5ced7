using System.Text;

using OpenWeights.Tokenizers.Templates.Ast;
using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <content>Literals, subscriptions, calls, filters and tests.</content>
internal sealed partial class ExpressionParser
{
    private Expr Primary()
    {
        var token = stream.Current;
        switch (token.Kind)
        {
            case TokenKind.Name:
                _ = stream.Next();
                return token.Text switch
                {
                    "true" or "True" => new ConstExpr(true, token.Line),
                    "false" or "False" => new ConstExpr(false, token.Line),
                    "none" or "None" => new ConstExpr(null, token.Line),
                    _ => new NameExpr(token.Text, token.Line),
                };
            case TokenKind.String:
                var text = new StringBuilder();
                while (stream.Current.Kind == TokenKind.String)
                {
                    _ = text.Append(stream.Next().Text);
                }

                return new StringExpr(text.ToString(), token.Line);
            case TokenKind.Integer or TokenKind.Float:
                return new ConstExpr(stream.Next().Value, token.Line);
            case TokenKind.Operator when token.Text == "(":
                _ = stream.Next();
                var inner = Tuple(inParentheses: true);
                stream.ExpectOperator(")");
                return inner;
            case TokenKind.Operator when token.Text == "[":
                return ListLiteral();
            case TokenKind.Operator when token.Text == "{":
                return DictLiteral();
            default:
                throw Fail($"unexpected {PyRepr.Quote(token.Description)}");
        }
    }

    private ListExpr ListLiteral()
    {
        var line = stream.Next().Line;
        var items = new List<Expr>();
        while (!stream.Current.IsOperator("]"))
        {
            if (items.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            if (stream.Current.IsOperator("]"))
            {
                break;
            }

            items.Add(Expression());
        }

        stream.ExpectOperator("]");
        return Checked(new ListExpr([.. items], line));
    }

    private DictExpr DictLiteral()
    {
        var line = stream.Next().Line;
        var items = new List<KeyValuePair<Expr, Expr>>();
        while (!stream.Current.IsOperator("}"))
        {
            if (items.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            if (stream.Current.IsOperator("}"))
            {
                break;
            }

            var key = Expression();
            stream.ExpectOperator(":");
            items.Add(KeyValuePair.Create(key, Expression()));
        }

        stream.ExpectOperator("}");
        return Checked(new DictExpr([.. items], line));
    }

    private Expr Postfix(Expr value)
    {
        while (stream.Current.Kind == TokenKind.Operator)
        {
            switch (stream.Current.Text)
            {
                case ".":
                    value = Dot(value);
                    break;
                case "[":
                    value = Subscript(value);
                    break;
                case "(":
                    var line = stream.Current.Line;
                    value = Checked(new CallExpr(value, CallArguments(), line));
                    break;
                default:
                    return value;
            }
        }

        return value;
    }

    private Expr Dot(Expr value)
    {
        var line = stream.Next().Line;
        var token = stream.Next();
        return token.Kind switch
        {
            TokenKind.Name => Checked(new AttributeExpr(value, token.Text, line)),
            TokenKind.Integer => Checked(new ItemExpr(value, new ConstExpr(token.Value, token.Line), line)),
            _ => throw TemplateFailure.Syntax("expected name or number", token.Line),
        };
    }

    private ItemExpr Subscript(Expr value)
    {
        var line = stream.Next().Line;
        var keys = new List<Expr>();
        while (!stream.Current.IsOperator("]"))
        {
            if (keys.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            keys.Add(SubscriptPart());
        }

        stream.ExpectOperator("]");
        return Checked(new ItemExpr(value, keys.Count == 1 ? keys[0] : Checked(new TupleExpr([.. keys], line)), line));
    }

    private Expr SubscriptPart()
    {
        var line = stream.Current.Line;
        var start = stream.Current.IsOperator(":") ? null : Expression();
        if (start is not null && !stream.Current.IsOperator(":"))
        {
            return start;
        }

        _ = stream.Next();
        var stop = IsSliceEnd() || stream.Current.IsOperator(":") ? null : Expression();
        var step = stream.SkipOperator(":") && !IsSliceEnd() ? Expression() : null;
        return Checked(new SliceExpr(start, stop, step, line));
    }

    private bool IsSliceEnd() => stream.Current.IsOperator("]") || stream.Current.IsOperator(",");

    private Expr FilterOrTest(Expr value)
    {
        while (true)
        {
            if (stream.Current.IsOperator("|"))
            {
                _ = stream.Next();
                value = Filter(value);
            }
            else if (stream.Current.IsName("is"))
            {
                value = Test(value);
            }
            else if (stream.Current.IsOperator("("))
            {
                var line = stream.Current.Line;
                value = Checked(new CallExpr(value, CallArguments(), line));
            }
            else
            {
                return value;
            }
        }
    }

    private FilterExpr Filter(Expr? value)
    {
        var (name, line) = DottedName();
        var arguments = stream.Current.IsOperator("(") ? CallArguments() : Ast.CallArguments.None;
        return Checked(new FilterExpr(value, name, arguments, line));
    }

    private Expr Test(Expr value)
    {
        _ = stream.Next();
        var isNegated = stream.SkipName("not");
        var (name, line) = DottedName();
        var arguments = Ast.CallArguments.None;
        if (stream.Current.IsOperator("("))
        {
            arguments = CallArguments();
        }
        else if (BeginsArgument(stream.Current))
        {
            if (stream.Current.IsName("is"))
            {
                throw Fail("You cannot chain multiple tests with is");
            }

            arguments = arguments with { Positional = [PrimaryWithPostfix()] };
        }

        Expr test = Checked(new TestExpr(value, name, arguments, line));
        return isNegated ? Checked(new NotExpr(test, line)) : test;
    }

    private static bool BeginsArgument(Token token) => token.Kind switch
    {
        TokenKind.Name => token.Text is not ("else" or "or" or "and"),
        TokenKind.String or TokenKind.Integer or TokenKind.Float => true,
        TokenKind.Operator => token.Text is "[" or "{",
        _ => false,
    };

    private (string Name, int Line) DottedName()
    {
        var token = stream.Expect(TokenKind.Name);
        var name = token.Text;
        while (stream.SkipOperator("."))
        {
            name += "." + stream.Expect(TokenKind.Name).Text;
        }

        return (name, token.Line);
    }

    private CallArguments CallArguments()
    {
        var line = stream.Next().Line;
        var positional = new List<Expr>();
        var keywords = new List<KeyValuePair<string, Expr>>();
        Expr? rest = null;
        Expr? keywordRest = null;
        var needsComma = false;
        while (!stream.Current.IsOperator(")"))
        {
            if (needsComma)
            {
                stream.ExpectOperator(",");
                if (stream.Current.IsOperator(")"))
                {
                    break;
                }
            }

            needsComma = true;
            if (stream.SkipOperator("*"))
            {
                Ensure(rest is null && keywordRest is null);
                rest = Expression();
            }
            else if (stream.SkipOperator("**"))
            {
                Ensure(keywordRest is null);
                keywordRest = Expression();
            }
            else if (stream.Current.Kind == TokenKind.Name && stream.Ahead.IsOperator("="))
            {
                Ensure(keywordRest is null);
                var name = stream.Next().Text;
                _ = stream.Next();
                if (keywords.Exists(keyword => keyword.Key == name))
                {
                    throw TemplateFailure.Syntax($"keyword argument repeated: {name}", line);
                }

                keywords.Add(KeyValuePair.Create(name, Expression()));
            }
            else
            {
                Ensure(rest is null && keywordRest is null && keywords.Count == 0);
                positional.Add(Expression());
            }
        }

        stream.ExpectOperator(")");
        return new CallArguments([.. positional], [.. keywords], rest, keywordRest);

        void Ensure(bool isValid)
        {
            if (!isValid)
            {
                throw TemplateFailure.Syntax("invalid syntax for function call expression", line);
            }
        }
    }
}
