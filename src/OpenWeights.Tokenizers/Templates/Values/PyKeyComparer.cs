using System.Numerics;

using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>Equality and hashes of dict keys as Python has them; None is stood for by <see cref="Missing.Value"/>.</summary>
internal sealed class PyKeyComparer : IEqualityComparer<object>
{
    public static readonly PyKeyComparer Instance = new();

    public new bool Equals(object? x, object? y) =>
        PyOperators.AreEqual(x is Missing ? null : x, y is Missing ? null : y);

    public int GetHashCode(object obj) => Hash(obj is Missing ? null : obj);

    /// <exception cref="TemplateFailure">The value cannot be a key: a list or a dict.</exception>
    public static int Hash(object? value)
    {
        TemplateFailure.GuardStack();
        switch (value)
        {
            case null:
                return 0;
            case PyString s:
                return s.Value.GetHashCode(StringComparison.Ordinal);
            case bool b:
                return b ? 1 : 0;
            case long n:
                return n.GetHashCode();
            case double d:
                return d == Math.Floor(d) && Math.Abs(d) < 9e18 ? ((long)d).GetHashCode() : d.GetHashCode();
            case BigInteger big:
                return big.GetHashCode();
            case PyTuple tuple:
                var hash = new HashCode();
                foreach (var item in tuple.Items)
                {
                    hash.Add(Hash(item));
                }

                return hash.ToHashCode();
            case Undefined:
                return 1;
            case PyList or PyDict or DictView { Kind: not DictViewKind.Values }:
                throw TemplateFailure.Type($"unhashable type: {PyRepr.Quote(PyType.Name(value))}");
            default:
                return System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(value);
        }
    }
}
