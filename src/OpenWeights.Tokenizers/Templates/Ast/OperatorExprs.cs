using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary><c>a + b</c> and its like.</summary>
internal sealed class BinaryExpr(BinaryOperator op, Expr left, Expr right, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [left, right];

    public override object? Evaluate(Activation activation)
    {
        var (a, b) = (left.Evaluate(activation), right.Evaluate(activation));
        return op switch
        {
            BinaryOperator.Add => PyOperators.Add(activation.State, a, b),
            BinaryOperator.Multiply => PyOperators.Multiply(activation.State, a, b),
            BinaryOperator.Modulo when a is PyString format => PercentFormat.Apply(activation.State, format, b),
            _ => PyArithmetic.Apply(op, a, b),
        };
    }
}

/// <summary><c>a ~ b ~ c</c>: the operands as strings, joined.</summary>
internal sealed class ConcatExpr(Expr[] items, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => items;

    public override object? Evaluate(Activation activation)
    {
        var state = activation.State;
        var values = Array.ConvertAll(items, item => PyConvert.ToSoftStr(state, item.Evaluate(activation)));
        var isMarkup = state.Autoescape && values.Any(value => value.IsMarkup);
        return TextBuilder.Join(state, isMarkup, isMarkup ? Array.ConvertAll(values, value => Html.Escape(state, value)) : values);
    }
}

/// <summary><c>-a</c> and <c>+a</c></summary>
internal sealed class SignExpr(bool isNegative, Expr operand, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [operand];

    public override object? Evaluate(Activation activation)
    {
        var value = operand.Evaluate(activation);
        return isNegative ? PyArithmetic.Negate(value) : PyArithmetic.Plus(value);
    }
}

/// <summary><c>not a</c></summary>
internal sealed class NotExpr(Expr operand, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [operand];

    public override object? Evaluate(Activation activation) => !PyConvert.IsTrue(operand.Evaluate(activation));
}

/// <summary><c>a and b</c>, <c>a or b</c>: the operand that decides.</summary>
internal sealed class LogicExpr(bool isAnd, Expr left, Expr right, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [left, right];

    public override object? Evaluate(Activation activation)
    {
        var value = left.Evaluate(activation);
        return PyConvert.IsTrue(value) == isAnd ? right.Evaluate(activation) : value;
    }
}

/// <summary><c>a &lt; b == c in d</c>: each operand is compared with the next, until one comparison fails.</summary>
internal sealed class CompareExpr(Expr first, KeyValuePair<string, Expr>[] rest, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [first, .. rest.Select(operand => operand.Value)];

    public override object? Evaluate(Activation activation)
    {
        var left = first.Evaluate(activation);
        foreach (var (symbol, operand) in rest)
        {
            var right = operand.Evaluate(activation);
            var holds = symbol switch
            {
                "==" => PyOperators.AreEqual(left, right),
                "!=" => !PyOperators.AreEqual(left, right),
                "in" => PyOperators.Contains(activation.State, right, left),
                "not in" => !PyOperators.Contains(activation.State, right, left),
                _ => PyOperators.Order(symbol, left, right),
            };
            if (!holds)
            {
                return false;
            }

            left = right;
        }

        return true;
    }
}

/// <summary><c>a if test else b</c></summary>
internal sealed class CondExpr(Expr test, Expr then, Expr? otherwise, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => otherwise is null ? [test, then] : [test, then, otherwise];

    public override void Bind(BindFrame frame) => base.Bind(frame.Soft());

    public override object? Evaluate(Activation activation)
    {
        if (PyConvert.IsTrue(test.Evaluate(activation)))
        {
            return then.Evaluate(activation);
        }

        return otherwise is null
            ? Undefined.Because($"the inline if-expression on line {Line} evaluated to false and no else section was defined.")
            : otherwise.Evaluate(activation);
    }
}
