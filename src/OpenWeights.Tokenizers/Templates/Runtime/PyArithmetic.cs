using System.Numerics;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

internal enum BinaryOperator
{
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

/// <summary>Python's arithmetic: integers of any size, floats, and the rules for mixing them.</summary>
internal static class PyArithmetic
{
    /// <summary>The order of two numbers of which one is not a number.</summary>
    public const int Unordered = int.MinValue;

    private static readonly string[] Symbols = ["+", "-", "*", "/", "//", "%", "** or pow()"];

    /// <exception cref="TemplateFailure">The operands do not fit the operator, or the result is not a number.</exception>
    public static object? Apply(BinaryOperator op, object? left, object? right)
    {
        if (left is Undefined || right is Undefined)
        {
            throw ((left as Undefined) ?? (Undefined)right!).Failure();
        }

        if (!PyType.IsNumber(left) || !PyType.IsNumber(right))
        {
            throw TemplateFailure.Type(
                $"unsupported operand type(s) for {Symbols[(int)op]}: {PyRepr.Quote(PyType.Name(left))} and {PyRepr.Quote(PyType.Name(right))}");
        }

        if (left is double || right is double)
        {
            return Floats(op, PyConvert.ToDouble(left), PyConvert.ToDouble(right));
        }

        return left is long a && right is long b && TrySmall(op, a, b, out var small) ? small : Integers(op, ToBig(left!), ToBig(right!));
    }

    public static object? Negate(object? value) => value switch
    {
        long n when n != long.MinValue => -n,
        double d => -d,
        long or bool or BigInteger => PyOperators.Normal(-ToBig(value)),
        Undefined undefined => throw undefined.Failure(),
        _ => throw TemplateFailure.Type($"bad operand type for unary -: {PyRepr.Quote(PyType.Name(value))}"),
    };

    public static object? Plus(object? value) => value switch
    {
        bool b => b ? 1L : 0L,
        long or double or BigInteger => value,
        Undefined undefined => throw undefined.Failure(),
        _ => throw TemplateFailure.Type($"bad operand type for unary +: {PyRepr.Quote(PyType.Name(value))}"),
    };

    public static BigInteger ToBig(object value) => value switch
    {
        long n => n,
        bool b => b ? 1 : 0,
        _ => (BigInteger)value,
    };

    public static int CompareNumbers(object left, object right)
    {
        if (left is long a && right is long b)
        {
            return a.CompareTo(b);
        }

        if (left is not double && right is not double)
        {
            return ToBig(left).CompareTo(ToBig(right));
        }

        if ((left is double x && double.IsNaN(x)) || (right is double y && double.IsNaN(y)))
        {
            return Unordered;
        }

        return left is double leftDouble
            ? right is double rightDouble ? leftDouble.CompareTo(rightDouble) : CompareMixed(leftDouble, ToBig(right))
            : -CompareMixed((double)right, ToBig(left));
    }

    /// <summary>A float against an integer, exactly.</summary>
    private static int CompareMixed(double left, BigInteger right)
    {
        if (double.IsInfinity(left))
        {
            return left > 0 ? 1 : -1;
        }

        var floor = Math.Floor(left);
        var order = new BigInteger(floor).CompareTo(right);
        return order == 0 && left > floor ? 1 : order;
    }

    private static bool TrySmall(BinaryOperator op, long a, long b, out object? result)
    {
        var (value, fits) = op switch
        {
            BinaryOperator.Add => (a + b, ((a ^ (a + b)) & (b ^ (a + b))) >= 0),
            BinaryOperator.Subtract => (a - b, ((a ^ b) & (a ^ (a - b))) >= 0),
            BinaryOperator.Multiply => (unchecked(a * b), Math.BigMul(a, b, out var low) == low >> 63),
            BinaryOperator.Modulo when b > 0 => (((a % b) + b) % b, b < long.MaxValue / 2),
            _ => (0L, false),
        };
        result = fits ? value : null;
        return fits;
    }

    private static object? Integers(BinaryOperator op, BigInteger a, BigInteger b)
    {
        switch (op)
        {
            case BinaryOperator.Add:
                return PyOperators.Normal(a + b);
            case BinaryOperator.Subtract:
                return PyOperators.Normal(a - b);
            case BinaryOperator.Multiply:
                return PyOperators.Normal(a * b);
            case BinaryOperator.Divide:
                return b.IsZero ? throw TemplateFailure.Runtime("division by zero") : Quotient(a, b);
            case BinaryOperator.Power:
                return Power(a, b);
            default:
                if (b.IsZero)
                {
                    throw TemplateFailure.Runtime(op == BinaryOperator.Modulo ? "integer modulo by zero" : "integer division or modulo by zero");
                }

                var quotient = BigInteger.DivRem(a, b, out var remainder);
                if (!remainder.IsZero && remainder.Sign != b.Sign)
                {
                    quotient--;
                    remainder += b;
                }

                return PyOperators.Normal(op == BinaryOperator.Modulo ? remainder : quotient);
        }
    }

    private static object Quotient(BigInteger a, BigInteger b)
    {
        var (x, y) = ((double)a, (double)b);
        return double.IsFinite(x) && double.IsFinite(y) ? x / y : throw TemplateFailure.Runtime("integer division result too large for a float");
    }

    private static object? Power(BigInteger a, BigInteger b)
    {
        if (b.Sign < 0)
        {
            return Floats(BinaryOperator.Power, PyConvert.ToDouble(PyOperators.Normal(a)), PyConvert.ToDouble(PyOperators.Normal(b)));
        }

        if (a.IsZero || a.IsOne)
        {
            return b.IsZero ? 1L : (long)a;
        }

        if (a == BigInteger.MinusOne)
        {
            return b.IsEven ? 1L : -1L;
        }

        // The bound is checked before the power is taken: the power itself is the danger.
        if (b > RenderLimits.IntegerBits || (double)b * (a.GetBitLength() - 1) > RenderLimits.IntegerBits)
        {
            throw TemplateFailure.Limit($"the template was stopped: it made an integer of more than {RenderLimits.IntegerBits} bits");
        }

        return PyOperators.Normal(BigInteger.Pow(a, (int)b));
    }

    private static object? Floats(BinaryOperator op, double a, double b)
    {
        switch (op)
        {
            case BinaryOperator.Add:
                return a + b;
            case BinaryOperator.Subtract:
                return a - b;
            case BinaryOperator.Multiply:
                return a * b;
            case BinaryOperator.Divide:
                return b == 0 ? throw TemplateFailure.Runtime("float division by zero") : a / b;
            case BinaryOperator.FloorDivide:
                return b == 0 ? throw TemplateFailure.Runtime("float floor division by zero") : FloorQuotient(a, b);
            case BinaryOperator.Modulo:
                return b == 0 ? throw TemplateFailure.Runtime("float modulo") : FloorMod(a, b);
            default:
                if (a == 0 && b < 0)
                {
                    throw TemplateFailure.Runtime("0.0 cannot be raised to a negative power");
                }

                if (a < 0 && b != Math.Floor(b) && double.IsFinite(a) && double.IsFinite(b))
                {
                    throw TemplateFailure.Runtime("a negative number cannot be raised to a fractional power here: the result is complex");
                }

                var power = Math.Pow(a, b);
                return double.IsInfinity(power) && double.IsFinite(a) && double.IsFinite(b)
                    ? throw TemplateFailure.Runtime("(34, 'Numerical result out of range')")
                    : power;
        }
    }

    /// <summary>The quotient without its fraction, as CPython computes it: from the exact remainder.</summary>
    private static double FloorQuotient(double a, double b)
    {
        var quotient = (a - FloorMod(a, b)) / b;
        if (quotient == 0)
        {
            return Math.CopySign(0.0, a / b);
        }

        var floor = Math.Floor(quotient);
        return quotient - floor > 0.5 ? floor + 1 : floor;
    }

    /// <summary>The remainder with the sign of the divisor.</summary>
    private static double FloorMod(double a, double b)
    {
        var remainder = a % b;
        if (remainder != 0)
        {
            return (b < 0) != (remainder < 0) ? remainder + b : remainder;
        }

        return Math.CopySign(0.0, b);
    }
}
