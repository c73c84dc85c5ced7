using System.Numerics;

using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Python's names of the types of values.</summary>
internal static class PyType
{
    public static string Name(object? value) => value switch
    {
        null => "NoneType",
        PyString { IsMarkup: true } => "Markup",
        PyString => "str",
        bool => "bool",
        long or BigInteger => "int",
        double => "float",
        PyList => "list",
        PyTuple { Names: not null } => "_GroupTuple",
        PyTuple => "tuple",
        PyDict => "dict",
        DictView view => view.Kind switch { DictViewKind.Keys => "dict_keys", DictViewKind.Values => "dict_values", _ => "dict_items" },
        PyRange => "range",
        PySlice => "slice",
        PyGenerator generator => generator.TypeName,
        Undefined => "Undefined",
        PyNamespace => "Namespace",
        Macro => "Macro",
        LoopContext => "LoopContext",
        Cycler => "Cycler",
        Joiner => "Joiner",
        BuiltinFunction function => function.TypeName,
        _ => value.GetType().Name,
    };

    /// <summary>The name with its module, as jinja2 writes it in messages; built-in types have none.</summary>
    public static string QualifiedName(object? value) => value switch
    {
        PyString { IsMarkup: true } => "markupsafe.Markup",
        PyTuple { Names: not null } => "jinja2.filters._GroupTuple",
        Undefined => "jinja2.runtime.Undefined",
        Macro => "jinja2.runtime.Macro",
        LoopContext => "jinja2.runtime.LoopContext",
        PyNamespace => "jinja2.utils.Namespace",
        Cycler => "jinja2.utils.Cycler",
        Joiner => "jinja2.utils.Joiner",
        _ => Name(value),
    };

    public static bool IsInteger(object? value) => value is long or bool or BigInteger;

    public static bool IsNumber(object? value) => value is long or bool or BigInteger or double;
}
