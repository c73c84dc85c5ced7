using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary><c>{% set target = value %}</c></summary>
internal sealed class AssignStmt(Target target, Expr value, int line) : Stmt(line)
{
    private bool isTopLevel;

    public override IEnumerable<Node> Children => [target, value];

    public override void Declare(Symbols symbols)
    {
        value.Declare(symbols);
        target.Declare(symbols);
    }

    public override void Bind(BindFrame frame)
    {
        isTopLevel = frame.IsTopLevel;
        base.Bind(frame);
    }

    public override Flow Execute(Activation activation)
    {
        activation.State.Line = Line;
        target.Check(activation);
        target.Assign(activation, value.Evaluate(activation));
        if (isTopLevel)
        {
            target.Export(activation);
        }

        return Flow.Next;
    }
}

/// <summary><c>{% set target %} body {% endset %}</c>: what the body writes, through filters.</summary>
internal sealed class AssignBlockStmt(Target target, FilterExpr? filter, Stmt[] body, int line) : Stmt(line)
{
    private FrameSetup setup = null!;
    private bool isTopLevel;

    public override IEnumerable<Node> Children => filter is null ? [target, .. body] : [target, filter, .. body];

    public override void Declare(Symbols symbols) => target.Declare(symbols);

    public override void Bind(BindFrame frame)
    {
        isTopLevel = frame.IsTopLevel;
        var inner = frame.Inner();
        DeclareAll(body, inner.Symbols);
        filter?.Declare(inner.Symbols);
        target.Bind(frame);
        filter?.Bind(inner);
        BindAll(body, inner);
        setup = new FrameSetup(inner);
    }

    public override Flow Execute(Activation activation)
    {
        var state = activation.State;
        state.Line = Line;
        setup.Enter(activation);
        var flow = Flow.Next;
        var text = state.Capture(() => flow = Run(body, activation)).Build(state.Autoescape);
        if (flow != Flow.Next)
        {
            return flow;
        }

        target.Check(activation);
        target.Assign(activation, filter is null ? text : filter.Apply(activation, text));
        if (isTopLevel)
        {
            target.Export(activation);
        }

        setup.Leave(activation);
        return Flow.Next;
    }
}

/// <summary><c>{% with target = value, ... %} body {% endwith %}</c></summary>
internal sealed class WithStmt(Target[] targets, Expr[] values, Stmt[] body, int line) : Stmt(line)
{
    private FrameSetup setup = null!;

    public override IEnumerable<Node> Children => [.. targets, .. values, .. body];

    public override void Declare(Symbols symbols) => DeclareAll(values, symbols);

    public override void Bind(BindFrame frame)
    {
        var inner = frame.Inner();
        foreach (var target in targets)
        {
            target.DeclareParameters(inner.Symbols);
        }

        DeclareAll(body, inner.Symbols);
        BindAll(targets, inner);
        BindAll(values, frame);
        BindAll(body, inner);
        setup = new FrameSetup(inner);
    }

    public override Flow Execute(Activation activation)
    {
        activation.State.Line = Line;
        setup.Enter(activation);
        for (var i = 0; i < targets.Length; i++)
        {
            targets[i].Assign(activation, values[i].Evaluate(activation));
        }

        var flow = Run(body, activation);
        setup.Leave(activation);
        return flow;
    }
}

/// <summary><c>{% filter name %} body {% endfilter %}</c></summary>
internal sealed class FilterBlockStmt(FilterExpr filter, Stmt[] body, int line) : Stmt(line)
{
    private FrameSetup setup = null!;

    public override IEnumerable<Node> Children => [.. body, filter];

    public override void Declare(Symbols symbols) => filter.Declare(symbols);

    public override void Bind(BindFrame frame)
    {
        var inner = frame.Inner();
        DeclareAll(body, inner.Symbols);
        filter.Declare(inner.Symbols);
        BindAll(body, inner);
        filter.Bind(inner);
        setup = new FrameSetup(inner);
    }

    public override Flow Execute(Activation activation)
    {
        var state = activation.State;
        setup.Enter(activation);
        var flow = Flow.Next;
        var text = state.Capture(() => flow = Run(body, activation)).Build(state.Autoescape);
        if (flow != Flow.Next)
        {
            return flow;
        }

        state.Line = Line;
        var filtered = filter.Apply(activation, text);
        state.Output.Write(state.Autoescape ? Html.Escape(state, filtered) : PyConvert.ToStr(state, filtered));
        setup.Leave(activation);
        return Flow.Next;
    }
}

/// <summary><c>{% autoescape on %} body {% endautoescape %}</c></summary>
internal sealed class AutoescapeStmt(Expr isOn, Stmt[] body, int line) : Stmt(line)
{
    private FrameSetup setup = null!;

    public override IEnumerable<Node> Children => [isOn, .. body];

    public override void Declare(Symbols symbols)
    {
    }

    public override void Bind(BindFrame frame)
    {
        var inner = frame.Inner();
        isOn.Declare(inner.Symbols);
        DeclareAll(body, inner.Symbols);
        isOn.Bind(inner);
        BindAll(body, inner);
        setup = new FrameSetup(inner);
    }

    public override Flow Execute(Activation activation)
    {
        var state = activation.State;
        state.Line = Line;
        setup.Enter(activation);
        var outer = state.Autoescape;
        state.Autoescape = PyConvert.IsTrue(isOn.Evaluate(activation));
        var flow = Run(body, activation);
        state.Autoescape = outer;
        setup.Leave(activation);
        return flow;
    }
}
