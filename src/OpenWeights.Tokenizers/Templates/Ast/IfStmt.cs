using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;

namespace OpenWeights.Tokenizers.Templates.Ast;

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
