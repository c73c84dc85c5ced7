using OpenWeights.Tokenizers.Templates.Ast;
using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <summary>Parses expressions by jinja2's grammar and precedence: a filter binds tighter than any operator but the sign before it.</summary>
internal sealed partial class ExpressionParser(TokenStream stream)
{
    private int depth;

    /// <summary>One expression, or several with commas between them, which make a tuple.</summary>
    /// <param name="withCondition">Whether <c>a if b</c> may stand here.</param>
    /// <param name="inParentheses">Whether nothing at all is an empty tuple.</param>
    public Expr Tuple(bool withCondition = true, bool inParentheses = false)
    {
        var line = stream.Current.Line;
        var items = new List<Expr>();
        var isTuple = false;
        while (true)
        {
            if (items.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            if (IsTupleEnd())
            {
                break;
            }

            items.Add(Expression(withCondition));
            if (!stream.Current.IsOperator(","))
            {
                break;
            }

            isTuple = true;
        }

        if (!isTuple && items.Count > 0)
        {
            return items[0];
        }

        if (!isTuple && !inParentheses)
        {
            throw Fail($"Expected an expression, got {PyRepr.Quote(stream.Current.Description)}");
        }

        return Checked(new TupleExpr([.. items], line));
    }

    public Expr Expression(bool withCondition = true)
    {
        TemplateFailure.GuardStack();
        if (++depth > RenderLimits.SyntaxDepth)
        {
            throw Fail("the expression nests too deeply");
        }

        var expression = withCondition ? Condition() : Or();
        depth--;
        return expression;
    }

    /// <summary>A name or literal with what follows it directly: the argument of a test that has no parentheses.</summary>
    public Expr PrimaryWithPostfix() => Postfix(Primary());

    /// <summary>A chain of filters; it begins with a bar, or for a filter block with the first filter's name.</summary>
    public FilterExpr? FilterChain(bool startsInline)
    {
        FilterExpr? filter = null;
        while (startsInline || stream.Current.IsOperator("|"))
        {
            if (!startsInline)
            {
                _ = stream.Next();
            }

            filter = Filter(filter);
            startsInline = false;
        }

        return filter;
    }

    public bool IsTupleEnd() =>
        stream.Current.Kind is TokenKind.VariableEnd or TokenKind.BlockEnd || stream.Current.IsOperator(")");

    public TemplateFailure Fail(string reason) => TemplateFailure.Syntax(reason, stream.Current.Line);

    private Expr Condition()
    {
        var line = stream.Current.Line;
        var then = Or();
        while (stream.SkipName("if"))
        {
            var test = Or();
            var otherwise = stream.SkipName("else") ? Expression() : null;
            then = Checked(new CondExpr(test, then, otherwise, line));
            line = stream.Current.Line;
        }

        return then;
    }

    private Expr Or()
    {
        var left = And();
        while (stream.Current.IsName("or"))
        {
            var line = stream.Next().Line;
            left = Checked(new LogicExpr(isAnd: false, left, And(), line));
        }

        return left;
    }

    private Expr And()
    {
        var left = Not();
        while (stream.Current.IsName("and"))
        {
            var line = stream.Next().Line;
            left = Checked(new LogicExpr(isAnd: true, left, Not(), line));
        }

        return left;
    }

    private Expr Not()
    {
        var negations = new Stack<int>();
        while (stream.Current.IsName("not"))
        {
            negations.Push(stream.Next().Line);
        }

        var operand = Compare();
        while (negations.TryPop(out var line))
        {
            operand = Checked(new NotExpr(operand, line));
        }

        return operand;
    }

    private Expr Compare()
    {
        var line = stream.Current.Line;
        var first = Sum();
        var rest = new List<KeyValuePair<string, Expr>>();
        while (CompareOperator() is { } symbol)
        {
            rest.Add(KeyValuePair.Create(symbol, Sum()));
        }

        return rest.Count == 0 ? first : Checked(new CompareExpr(first, [.. rest], line));
    }

    private string? CompareOperator()
    {
        var token = stream.Current;
        if (token.Kind == TokenKind.Operator && token.Text is "==" or "!=" or "<" or "<=" or ">" or ">=")
        {
            return stream.Next().Text;
        }

        if (stream.SkipName("in"))
        {
            return "in";
        }

        if (token.IsName("not") && stream.Ahead.IsName("in"))
        {
            _ = stream.Next();
            _ = stream.Next();
            return "not in";
        }

        return null;
    }

    private Expr Sum()
    {
        var left = Concat();
        while (stream.Current.IsOperator("+") || stream.Current.IsOperator("-"))
        {
            var token = stream.Next();
            var op = token.Text == "+" ? BinaryOperator.Add : BinaryOperator.Subtract;
            left = Checked(new BinaryExpr(op, left, Concat(), token.Line));
        }

        return left;
    }

    private Expr Concat()
    {
        var line = stream.Current.Line;
        var items = new List<Expr> { Product() };
        while (stream.SkipOperator("~"))
        {
            items.Add(Product());
        }

        return items.Count == 1 ? items[0] : Checked(new ConcatExpr([.. items], line));
    }

    private Expr Product()
    {
        var left = Power();
        while (stream.Current.Kind == TokenKind.Operator && stream.Current.Text is "*" or "/" or "//" or "%")
        {
            var token = stream.Next();
            var op = token.Text switch
            {
                "*" => BinaryOperator.Multiply,
                "/" => BinaryOperator.Divide,
                "//" => BinaryOperator.FloorDivide,
                _ => BinaryOperator.Modulo,
            };
            left = Checked(new BinaryExpr(op, left, Power(), token.Line));
        }

        return left;
    }

    private Expr Power()
    {
        var left = Unary(withFilter: true);
        while (stream.Current.IsOperator("**"))
        {
            var line = stream.Next().Line;
            left = Checked(new BinaryExpr(BinaryOperator.Power, left, Unary(withFilter: true), line));
        }

        return left;
    }

    private Expr Unary(bool withFilter)
    {
        var signs = new Stack<Token>();
        while (stream.Current.IsOperator("-") || stream.Current.IsOperator("+"))
        {
            signs.Push(stream.Next());
        }

        var operand = Postfix(Primary());
        while (signs.TryPop(out var sign))
        {
            operand = Checked(new SignExpr(sign.Text == "-", operand, sign.Line));
        }

        return withFilter ? FilterOrTest(Postfix(operand)) : operand;
    }

    /// <summary>Keeps the height of expression trees within what can be evaluated recursively.</summary>
    private static T Checked<T>(T expression)
        where T : Expr
    {
        var tallest = 0;
        foreach (var child in expression.Children)
        {
            tallest = Math.Max(tallest, ((Expr)child).Height);
        }

        expression.Height = tallest + 1;
        return expression.Height <= RenderLimits.ExpressionHeight
            ? expression
            : throw TemplateFailure.Syntax("the expression has too many operators inside each other", expression.Line);
    }
}
