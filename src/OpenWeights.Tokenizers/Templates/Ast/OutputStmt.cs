using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

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
