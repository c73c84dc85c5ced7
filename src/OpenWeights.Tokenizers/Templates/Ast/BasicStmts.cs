using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary><c>{% break %}</c> or <c>{% continue %}</c></summary>
internal sealed class LoopControlStmt(Flow flow, int line) : Stmt(line)
{
    public override void Bind(BindFrame frame)
    {
        if (!frame.IsInLoop)
        {
            throw TemplateFailure.Syntax(flow == Flow.Break ? "'break' outside loop" : "'continue' not properly in loop", Line);
        }
    }

    public override Flow Execute(Activation activation) => flow;
}

/// <summary><c>{% block name %} body {% endblock %}</c>: without inheritance, a body that sees only the template's own variables.</summary>
internal sealed class BlockStmt(string name, Stmt[] body, int line) : Stmt(line)
{
    private FrameSetup setup = null!;
    private FunctionScope function = null!;

    public string Name { get; } = name;

    public override IEnumerable<Node> Children => body;

    public override void Declare(Symbols symbols)
    {
    }

    public override void Bind(BindFrame frame)
    {
        var root = BindFrame.Root(isTopLevel: false);
        DeclareAll(body, root.Symbols);
        BindAll(body, root);
        setup = new FrameSetup(root);
        function = root.Function;
    }

    public override Flow Execute(Activation activation)
    {
        var inner = new Activation(activation.State, function, null);
        setup.Enter(inner);
        return Run(body, inner);
    }
}

/// <summary><c>include</c>, <c>import</c>, <c>from</c>, <c>extends</c>: a chat template has no other templates to load.</summary>
internal sealed class LoadStmt(Expr template, string[] names, int line) : Stmt(line)
{
    public override IEnumerable<Node> Children => [template];

    public override void Declare(Symbols symbols)
    {
        base.Declare(symbols);
        foreach (var name in names)
        {
            symbols.Store(name);
        }
    }

    public override Flow Execute(Activation activation)
    {
        activation.State.Line = Line;
        throw TemplateFailure.Type("no loader for this environment specified");
    }
}

/// <summary>A whole template.</summary>
internal sealed class TemplateNode : Node
{
    private readonly Stmt[] body;
    private readonly FrameSetup setup;
    private readonly FunctionScope function;

    /// <summary>Binds the names of a parsed template.</summary>
    public TemplateNode(Stmt[] body)
        : base(1)
    {
        this.body = body;
        HasGenerationBlocks = Descendants().Any(node => node is GenerationStmt);
        var duplicate = Descendants().OfType<BlockStmt>().GroupBy(block => block.Name).FirstOrDefault(blocks => blocks.Count() > 1);
        if (duplicate is not null)
        {
            throw TemplateFailure.Syntax($"block '{duplicate.Key}' defined twice", duplicate.Last().Line);
        }

        var root = BindFrame.Root(isTopLevel: true);
        Declare(root.Symbols);
        Bind(root);
        setup = new FrameSetup(root);
        function = root.Function;
    }

    public override IEnumerable<Node> Children => body;

    public bool HasGenerationBlocks { get; }

    /// <summary>Runs the template; its text is in the state's output.</summary>
    public void Execute(RenderState state)
    {
        var activation = new Activation(state, function, null);
        setup.Enter(activation);
        _ = Stmt.Run(body, activation);
    }
}

/// <summary><c>{% if %} ... {% elif %} ... {% else %} ... {% endif %}</c></summary>
internal sealed class IfStmt(Expr test, Stmt[] body, IfStmt[] elifs, Stmt[] otherwise, int line) : Stmt(line)
{
    public override IEnumerable<Node> Children => [test, .. body, .. elifs, .. otherwise];

    public override void Declare(Symbols symbols)
    {
        test.Declare(symbols);
        symbols.Merge([Branch(body), Branch(elifs), Branch(otherwise)]);

        Symbols Branch(IEnumerable<Node> nodes)
        {
            var copy = symbols.Copy();
            DeclareAll(nodes, copy);
            return copy;
        }
    }

    public override void Bind(BindFrame frame) => BindAll(Children, frame.Soft());

    public override Flow Execute(Activation activation)
    {
        if (Holds(activation))
        {
            return Run(body, activation);
        }

        foreach (var elif in elifs)
        {
            if (elif.Holds(activation))
            {
                return elif.RunBody(activation);
            }
        }

        return Run(otherwise, activation);
    }

    private bool Holds(Activation activation)
    {
        activation.State.Line = Line;
        return PyConvert.IsTrue(test.Evaluate(activation));
    }

    private Flow RunBody(Activation activation) => Run(body, activation);
}

/// <summary>Text of the template.</summary>
internal sealed class TextStmt(string text, int line) : Stmt(line)
{
    private readonly PyString text = PyString.Of(text);

    public override Flow Execute(Activation activation)
    {
        activation.State.Output.Write(text);
        return Flow.Next;
    }
}

/// <summary><c>{{ value }}</c></summary>
internal sealed class OutputStmt(Expr value, int line) : Stmt(line)
{
    public override IEnumerable<Node> Children => [value];

    public override Flow Execute(Activation activation)
    {
        var state = activation.State;
        state.Line = Line;
        var result = value.Evaluate(activation);
        var text = state.Autoescape ? Html.Escape(state, result) : PyConvert.ToStr(state, result);
        state.Output.Write(text);
        return Flow.Next;
    }
}
