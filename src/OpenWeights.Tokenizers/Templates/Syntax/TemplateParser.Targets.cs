using OpenWeights.Tokenizers.Templates.Ast;
using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <summary>The names that statements set.</summary>
internal sealed partial class TemplateParser
{
    private Token PlainName()
    {
        var token = stream.Expect(TokenKind.Name);
        return IsConstant(token.Text) ? throw CannotAssign("const", token.Line) : token;
    }

    /// <summary>One target, or several with commas between them.</summary>
    private Target AssignTarget(bool withNamespace)
    {
        var line = stream.Current.Line;
        var targets = new List<Target>();
        var isTuple = false;
        while (true)
        {
            if (targets.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            if (expressions.IsTupleEnd())
            {
                break;
            }

            targets.Add(SingleTarget(withNamespace));
            if (!stream.Current.IsOperator(","))
            {
                break;
            }

            isTuple = true;
        }

        if (!isTuple && targets.Count == 1)
        {
            return targets[0];
        }

        return isTuple
            ? new TupleTarget([.. targets], line)
            : throw expressions.Fail($"Expected an expression, got {PyRepr.Quote(stream.Current.Description)}");
    }

    private Target SingleTarget(bool withNamespace)
    {
        TemplateFailure.GuardStack();
        var token = stream.Current;
        if (token.IsOperator("("))
        {
            _ = stream.Next();
            var inner = AssignTarget(withNamespace: false);
            stream.ExpectOperator(")");
            return inner;
        }

        if (token.Kind != TokenKind.Name)
        {
            _ = expressions.PrimaryWithPostfix();
            throw CannotAssign(token.Kind == TokenKind.Operator ? (token.Text == "[" ? "list" : "dict") : "const", token.Line);
        }

        _ = stream.Next();
        if (IsConstant(token.Text))
        {
            throw CannotAssign("const", token.Line);
        }

        return withNamespace && stream.SkipOperator(".")
            ? new NamespaceTarget(token.Text, stream.Expect(TokenKind.Name).Text, token.Line)
            : new NameTarget(token.Text, token.Line);
    }

    private static bool IsConstant(string name) => name is "true" or "false" or "none" or "True" or "False" or "None";

    private static TemplateFailure CannotAssign(string what, int line) => TemplateFailure.Syntax($"can't assign to '{what}'", line);
}
