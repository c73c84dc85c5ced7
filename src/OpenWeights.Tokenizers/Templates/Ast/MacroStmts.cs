using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary>A parameter of a macro or of a call block.</summary>
internal sealed class ParameterNode(string name, Expr? defaultValue, int line) : Node(line)
{
    public string Name { get; } = name;

    public Expr? Default { get; } = defaultValue;

    public override void Declare(Symbols symbols) => symbols.DeclareParameter(Name);

    public override void Bind(BindFrame frame)
    {
    }
}

/// <summary>Base of macros, call blocks and generation blocks: parameters, and a body that runs as a function.</summary>
internal sealed class MacroBody(ParameterNode[] parameters, Stmt[] body, int line) : Node(line)
{
    private MacroExtras extras;
    private FunctionScope function = null!;
    private FrameSetup setup = null!;
    private Slot[] slots = [];

    public override IEnumerable<Node> Children => [.. parameters, .. Defaults, .. body];

    private IEnumerable<Expr> Defaults => parameters.Select(parameter => parameter.Default).OfType<Expr>();

    public override void Declare(Symbols symbols)
    {
    }

    public override void Bind(BindFrame frame)
    {
        var names = parameters.Select(parameter => parameter.Name).ToList();
        var used = FindUndeclared(body, "caller", "kwargs", "varargs");
        if (used.Contains("caller") && parameters.FirstOrDefault(parameter => parameter.Name == "caller") is { Default: null })
        {
            throw TemplateFailure.Syntax(
                "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default.", Line);
        }

        // A body that uses caller gets it, even if it declares a parameter of that name.
        extras = (used.Contains("caller") ? MacroExtras.Caller : 0)
            | (used.Contains("kwargs") && !names.Contains("kwargs") ? MacroExtras.Kwargs : 0)
            | (used.Contains("varargs") && !names.Contains("varargs") ? MacroExtras.Varargs : 0);
        var inner = frame.InnerFunction();
        foreach (var child in Children)
        {
            child.Declare(inner.Symbols);
        }

        names.AddRange(ExtraNames(names.Contains("caller")));
        names.ForEach(inner.Symbols.DeclareParameter);
        slots = [.. names.Select(inner.Locate)];
        foreach (var child in Children)
        {
            child.Bind(inner);
        }

        setup = new FrameSetup(inner);
        function = inner.Function;
    }

    /// <summary>The macro, as a value that sees the variables around its definition.</summary>
    public Macro Create(Activation outer, string? name) =>
        new(name, [.. parameters.Select(parameter => parameter.Name)], extras, values => Invoke(outer, values).Build());

    /// <summary>Runs the body; what it wrote.</summary>
    public TextBuilder Invoke(Activation outer, object?[] values) => outer.State.Capture(() =>
    {
        var activation = new Activation(outer.State, function, outer);
        for (var i = 0; i < values.Length; i++)
        {
            activation.Set(slots[i], values[i]);
        }

        setup.Enter(activation);
        for (var i = 0; i < parameters.Length; i++)
        {
            if (ReferenceEquals(activation.Get(slots[i]), Missing.Value))
            {
                activation.Set(slots[i], DefaultOf(parameters[i], activation));
            }
        }

        _ = Stmt.Run(body, activation);
    });

    private static object? DefaultOf(ParameterNode parameter, Activation activation) => parameter.Default is null
        ? Undefined.Because($"parameter {PyRepr.Quote(parameter.Name)} was not provided")
        : parameter.Default.Evaluate(activation);

    private IEnumerable<string> ExtraNames(bool declaresCaller)
    {
        if (extras.HasFlag(MacroExtras.Caller) && !declaresCaller)
        {
            yield return "caller";
        }

        if (extras.HasFlag(MacroExtras.Kwargs))
        {
            yield return "kwargs";
        }

        if (extras.HasFlag(MacroExtras.Varargs))
        {
            yield return "varargs";
        }
    }
}

/// <summary><c>{% macro name(parameters) %} body {% endmacro %}</c></summary>
internal sealed class MacroStmt(string name, MacroBody body, int line) : Stmt(line)
{
    private Slot slot;
    private bool isTopLevel;

    public override IEnumerable<Node> Children => body.Children;

    public override void Declare(Symbols symbols) => symbols.Store(name);

    public override void Bind(BindFrame frame)
    {
        isTopLevel = frame.IsTopLevel;
        body.Bind(frame);
        slot = frame.Locate(name);
    }

    public override Flow Execute(Activation activation)
    {
        var macro = body.Create(activation, name);
        activation.Set(slot, macro);
        if (isTopLevel)
        {
            activation.State.Export(name, macro);
        }

        return Flow.Next;
    }
}

/// <summary><c>{% call(parameters) macro(arguments) %} body {% endcall %}</c></summary>
internal sealed class CallBlockStmt(CallExpr call, MacroBody body, int line) : Stmt(line)
{
    public override IEnumerable<Node> Children => [call, .. body.Children];

    public override void Declare(Symbols symbols) => call.Declare(symbols);

    public override void Bind(BindFrame frame)
    {
        body.Bind(frame);
        call.Bind(frame);
    }

    public override Flow Execute(Activation activation)
    {
        var state = activation.State;
        state.Line = Line;
        var result = call.Call(activation, body.Create(activation, null));
        state.Output.Write(PyConvert.ToStr(state, result));
        return Flow.Next;
    }
}

/// <summary><c>{% generation %} body {% endgeneration %}</c>: what the assistant has to produce, by the word of the template's author.</summary>
internal sealed class GenerationStmt(MacroBody body, int line) : Stmt(line)
{
    public override IEnumerable<Node> Children => body.Children;

    public override void Declare(Symbols symbols)
    {
    }

    public override void Bind(BindFrame frame) => body.Bind(frame);

    public override Flow Execute(Activation activation)
    {
        var written = body.Invoke(activation, []);
        activation.State.Output.Write(written.BuildGenerated());
        return Flow.Next;
    }
}
