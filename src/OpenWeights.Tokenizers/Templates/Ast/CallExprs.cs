using OpenWeights.Tokenizers.Templates.Builtins;
using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary>The arguments of a call, a filter or a test.</summary>
/// <param name="Positional">By position.</param>
/// <param name="Keywords">By name.</param>
/// <param name="Rest"><c>*rest</c></param>
/// <param name="KeywordRest"><c>**rest</c></param>
internal sealed record CallArguments(Expr[] Positional, KeyValuePair<string, Expr>[] Keywords, Expr? Rest, Expr? KeywordRest)
{
    public static readonly CallArguments None = new([], [], null, null);

    public IEnumerable<Node> Nodes
    {
        get
        {
            IEnumerable<Node?> all = [.. Positional, .. Keywords.Select(keyword => keyword.Value), Rest, KeywordRest];
            return all.OfType<Node>();
        }
    }

    public Arguments Evaluate(Activation activation)
    {
        var positional = Array.ConvertAll(Positional, argument => argument.Evaluate(activation));
        var keywords = Array.ConvertAll(Keywords, keyword => KeyValuePair.Create(keyword.Key, keyword.Value.Evaluate(activation)));
        if (Rest is not null)
        {
            positional = [.. positional, .. PyConvert.Iterate(activation.State, Rest.Evaluate(activation))];
        }

        if (KeywordRest is not null)
        {
            keywords = [.. keywords, .. Unpack(KeywordRest.Evaluate(activation))];
        }

        return new Arguments(positional, keywords);
    }

    private static IEnumerable<KeyValuePair<string, object?>> Unpack(object? value)
    {
        if (value is not PyDict dict)
        {
            throw TemplateFailure.Type($"argument after ** must be a mapping, not {PyType.Name(value)}");
        }

        return dict.Entries.Select(entry => entry.Key is PyString name
            ? KeyValuePair.Create(name.Value, entry.Value)
            : throw TemplateFailure.Type("keywords must be strings"));
    }
}

/// <summary><c>value.name</c></summary>
internal sealed class AttributeExpr(Expr value, string name, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [value];

    public override object? Evaluate(Activation activation) => PyAccess.Attribute(activation.State, value.Evaluate(activation), name);
}

/// <summary><c>value[key]</c></summary>
internal sealed class ItemExpr(Expr value, Expr key, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [value, key];

    public override object? Evaluate(Activation activation)
    {
        var (subject, index) = (value.Evaluate(activation), key.Evaluate(activation));
        return index is PySlice slice ? PyAccess.Slice(activation.State, subject, slice) : PyAccess.Item(activation.State, subject, index);
    }
}

/// <summary><c>function(arguments)</c></summary>
internal sealed class CallExpr(Expr function, CallArguments arguments, int line) : Expr(line)
{
    public override IEnumerable<Node> Children => [function, .. arguments.Nodes];

    public override object? Evaluate(Activation activation) => Call(activation, caller: null);

    /// <summary>Calls with the body of a call block as the argument <c>caller</c>.</summary>
    public object? Call(Activation activation, Macro? caller)
    {
        var callee = function.Evaluate(activation);
        var passed = arguments.Evaluate(activation);
        if (callee is Undefined undefined)
        {
            throw undefined.Failure();
        }

        if (caller is not null)
        {
            passed = passed with { Keywords = [.. passed.Keywords, new("caller", caller)] };
        }

        activation.State.Line = Line;
        activation.State.Step();
        return callee is IPyCallable callable
            ? callable.Call(activation.State, passed)
            : throw TemplateFailure.Type($"{PyRepr.Quote(PyType.Name(callee))} object is not callable");
    }
}

/// <summary><c>value|name(arguments)</c></summary>
internal sealed class FilterExpr(Expr? value, string name, CallArguments arguments, int line) : Expr(line)
{
    private BuiltinFunction? filter;

    public override IEnumerable<Node> Children => value is null ? arguments.Nodes : [value, .. arguments.Nodes];

    public override void Bind(BindFrame frame)
    {
        if (!Filters.TryGet(name, out filter) && !frame.IsSoft)
        {
            throw TemplateFailure.Syntax($"No filter named {PyRepr.Quote(name)}.", Line);
        }

        base.Bind(frame);
    }

    public override object? Evaluate(Activation activation) => Apply(activation, null);

    /// <summary>Applies the chain of filters, the first to what a block wrote if it has no value of its own.</summary>
    public object? Apply(Activation activation, PyString? block)
    {
        var subject = value switch
        {
            null => block,
            FilterExpr inner => inner.Apply(activation, block),
            _ => value.Evaluate(activation),
        };
        if (filter is null)
        {
            throw TemplateFailure.Runtime($"No filter named {PyRepr.Quote(name)} found.");
        }

        activation.State.Step();
        return filter.Call(activation.State, arguments.Evaluate(activation).WithFirst(subject));
    }
}

/// <summary><c>value is name(arguments)</c></summary>
internal sealed class TestExpr(Expr value, string name, CallArguments arguments, int line) : Expr(line)
{
    private BuiltinFunction? test;

    public override IEnumerable<Node> Children => [value, .. arguments.Nodes];

    public override void Bind(BindFrame frame)
    {
        if (!Tests.TryGet(name, out test) && !frame.IsSoft)
        {
            throw TemplateFailure.Syntax($"No test named {PyRepr.Quote(name)}.", Line);
        }

        base.Bind(frame);
    }

    public override object? Evaluate(Activation activation)
    {
        var subject = value.Evaluate(activation);
        return test is null
            ? throw TemplateFailure.Runtime($"No test named {PyRepr.Quote(name)} found.")
            : test.Call(activation.State, arguments.Evaluate(activation).WithFirst(subject));
    }
}
