using OpenWeights.Tokenizers.Templates.Ast;
using OpenWeights.Tokenizers.Templates.Runtime;

namespace OpenWeights.Tokenizers.Templates.Syntax;

/// <summary>Parses a template: text, print tags and the statements of jinja2 with loop controls and generation blocks.</summary>
internal sealed partial class TemplateParser
{
    private readonly TokenStream stream;
    private readonly ExpressionParser expressions;
    private readonly Stack<string> openTags = new();
    private readonly Stack<string[]> wanted = new();

    private TemplateParser(TokenStream stream)
    {
        this.stream = stream;
        expressions = new ExpressionParser(stream);
    }

    /// <exception cref="TemplateFailure">The template is not well-formed.</exception>
    public static TemplateNode Parse(string template)
    {
        var parser = new TemplateParser(new TokenStream(TemplateLexer.Tokenize(template)));
        return new TemplateNode(parser.Statements([]));
    }

    /// <summary>Statements up to one of some tags, whose name is then current, or to the end of the template if there are none.</summary>
    private Stmt[] Statements(string[] ends)
    {
        TemplateFailure.GuardStack();
        if (wanted.Count > RenderLimits.SyntaxDepth)
        {
            throw expressions.Fail("the blocks nest too deeply");
        }

        var body = new List<Stmt>();
        if (ends.Length > 0)
        {
            wanted.Push(ends);
        }

        while (true)
        {
            var token = stream.Current;
            switch (token.Kind)
            {
                case TokenKind.Data:
                    body.Add(new TextStmt(stream.Next().Text, token.Line));
                    break;
                case TokenKind.VariableBegin:
                    _ = stream.Next();
                    body.Add(new OutputStmt(expressions.Tuple(), token.Line));
                    _ = stream.Expect(TokenKind.VariableEnd);
                    break;
                case TokenKind.BlockBegin:
                    _ = stream.Next();
                    if (stream.Current.Kind == TokenKind.Name && ends.Contains(stream.Current.Text))
                    {
                        _ = wanted.Pop();
                        return [.. body];
                    }

                    body.AddRange(Statement());
                    _ = stream.Expect(TokenKind.BlockEnd);
                    break;
                default:
                    return ends.Length == 0 ? [.. body] : throw UnknownTag(null, token.Line);
            }
        }
    }

    /// <summary>The body of a block, up to and with one of its end tags.</summary>
    private Stmt[] Body(params string[] ends)
    {
        _ = stream.SkipOperator(":");
        _ = stream.Expect(TokenKind.BlockEnd);
        return Statements(ends);
    }

    /// <summary>The body of a block and the name of its end tag.</summary>
    private Stmt[] BodyAndEnd(string end)
    {
        var body = Body(end);
        _ = stream.Next();
        return body;
    }

    private Stmt[] Statement()
    {
        var token = stream.Current;
        if (token.Kind != TokenKind.Name)
        {
            throw TemplateFailure.Syntax("tag name expected", token.Line);
        }

        openTags.Push(token.Text);
        Stmt? statement = token.Text switch
        {
            "for" => For(),
            "if" => If(),
            "set" => Set(),
            "macro" => Macro(),
            "call" => Call(),
            "filter" => FilterBlock(),
            "with" => With(),
            "generation" => Generation(),
            "break" => new LoopControlStmt(Flow.Break, stream.Next().Line),
            "continue" => new LoopControlStmt(Flow.Continue, stream.Next().Line),
            "autoescape" => Autoescape(),
            "block" => Block(),
            "extends" or "include" or "import" or "from" => Load(),
            _ => null,
        };
        if (token.Text == "print")
        {
            var printed = Print();
            _ = openTags.Pop();
            return printed;
        }

        _ = openTags.Pop();
        return [statement ?? throw UnknownTag(token.Text, token.Line)];
    }

    private TemplateFailure UnknownTag(string? name, int line)
    {
        var looking = wanted.Count == 0 ? null : string.Join(" or ", wanted.Peek().Select(PyRepr.Quote));
        var message = name is null ? "Unexpected end of template." : $"Encountered unknown tag {PyRepr.Quote(name)}.";
        if (looking is not null)
        {
            message += name is not null && wanted.Any(ends => ends.Contains(name))
                ? $" You probably made a nesting mistake. Jinja is expecting this tag, but currently looking for {looking}."
                : $" Jinja was looking for the following tags: {looking}.";
        }

        if (openTags.Count > 0)
        {
            message += $" The innermost block that needs to be closed is {PyRepr.Quote(openTags.Peek())}.";
        }

        return TemplateFailure.Syntax(message, line);
    }

    private ForStmt For()
    {
        var line = stream.Next().Line;
        var target = AssignTarget(withNamespace: false);
        stream.ExpectName("in");
        var iter = expressions.Tuple(withCondition: false);
        var test = stream.SkipName("if") ? expressions.Expression() : null;
        var isRecursive = stream.SkipName("recursive");
        var body = Body("endfor", "else");
        var otherwise = stream.Next().Text == "endfor" ? [] : BodyAndEnd("endfor");
        return new ForStmt(target, iter, body, otherwise, test, isRecursive, line);
    }

    private IfStmt If()
    {
        var line = stream.Next().Line;
        var (test, body) = Branch();
        var elifs = new List<IfStmt>();
        while (true)
        {
            var token = stream.Next();
            switch (token.Text)
            {
                case "elif":
                    var (elifTest, elifBody) = Branch();
                    elifs.Add(new IfStmt(elifTest, elifBody, [], [], token.Line));
                    break;
                case "else":
                    return new IfStmt(test, body, [.. elifs], BodyAndEnd("endif"), line);
                default:
                    return new IfStmt(test, body, [.. elifs], [], line);
            }
        }

        (Expr Test, Stmt[] Body) Branch() => (expressions.Tuple(withCondition: false), Body("elif", "else", "endif"));
    }

    private Stmt Set()
    {
        var line = stream.Next().Line;
        var target = AssignTarget(withNamespace: true);
        if (stream.SkipOperator("="))
        {
            return new AssignStmt(target, expressions.Tuple(), line);
        }

        var filter = expressions.FilterChain(startsInline: false);
        return new AssignBlockStmt(target, filter, BodyAndEnd("endset"), line);
    }

    private WithStmt With()
    {
        var line = stream.Next().Line;
        var targets = new List<Target>();
        var values = new List<Expr>();
        while (stream.Current.Kind != TokenKind.BlockEnd)
        {
            if (targets.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            targets.Add(AssignTarget(withNamespace: false));
            stream.ExpectOperator("=");
            values.Add(expressions.Expression());
        }

        return new WithStmt([.. targets], [.. values], BodyAndEnd("endwith"), line);
    }

    private AutoescapeStmt Autoescape()
    {
        var line = stream.Next().Line;
        var isOn = expressions.Expression();
        return new AutoescapeStmt(isOn, BodyAndEnd("endautoescape"), line);
    }

    private MacroStmt Macro()
    {
        var line = stream.Next().Line;
        var name = PlainName().Text;
        var parameters = Parameters();
        return new MacroStmt(name, new MacroBody(parameters, BodyAndEnd("endmacro"), line), line);
    }

    private CallBlockStmt Call()
    {
        var line = stream.Next().Line;
        var parameters = stream.Current.IsOperator("(") ? Parameters() : [];
        var call = expressions.Expression() as CallExpr ?? throw TemplateFailure.Syntax("expected call", line);
        return new CallBlockStmt(call, new MacroBody(parameters, BodyAndEnd("endcall"), line), line);
    }

    private GenerationStmt Generation()
    {
        var line = stream.Next().Line;
        return new GenerationStmt(new MacroBody([], BodyAndEnd("endgeneration"), line), line);
    }

    private FilterBlockStmt FilterBlock()
    {
        var line = stream.Next().Line;
        var filter = expressions.FilterChain(startsInline: true)!;
        return new FilterBlockStmt(filter, BodyAndEnd("endfilter"), line);
    }

    private Stmt[] Print()
    {
        _ = stream.Next();
        var printed = new List<Stmt>();
        while (stream.Current.Kind != TokenKind.BlockEnd)
        {
            if (printed.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            var line = stream.Current.Line;
            printed.Add(new OutputStmt(expressions.Expression(), line));
        }

        return [.. printed];
    }

    private BlockStmt Block()
    {
        var line = stream.Next().Line;
        var name = stream.Expect(TokenKind.Name).Text;
        _ = stream.SkipName("scoped");
        var isRequired = stream.SkipName("required");
        var body = BodyAndEnd("endblock");
        _ = stream.SkipName(name);
        return isRequired
            ? throw TemplateFailure.Syntax($"Required block {PyRepr.Quote(name)} not found", line)
            : new BlockStmt(name, body, line);
    }

    private LoadStmt Load()
    {
        var token = stream.Next();
        var template = expressions.Expression();
        var names = new List<string>();
        while (stream.Current.Kind != TokenKind.BlockEnd)
        {
            // Nothing can be loaded, so of the rest only the names that it would set matter.
            var part = stream.Current.Kind is TokenKind.Name || stream.Current.IsOperator(",")
                ? stream.Next()
                : throw expressions.Fail($"expected token 'end of statement block', got {PyRepr.Quote(stream.Current.Description)}");
            if (part.Kind == TokenKind.Name && token.Text is "import" or "from" && part.Text is not ("as" or "import" or "with" or "without" or "context"))
            {
                names.Add(part.Text);
            }
        }

        return new LoadStmt(template, [.. names], token.Line);
    }

    private ParameterNode[] Parameters()
    {
        var parameters = new List<ParameterNode>();
        stream.ExpectOperator("(");
        while (!stream.Current.IsOperator(")"))
        {
            if (parameters.Count > 0)
            {
                stream.ExpectOperator(",");
            }

            var name = PlainName();
            var value = stream.SkipOperator("=") ? expressions.Expression() : null;
            if (value is null && parameters.Count > 0 && parameters[^1].Default is not null)
            {
                throw expressions.Fail("non-default argument follows default argument");
            }

            if (parameters.Exists(parameter => parameter.Name == name.Text))
            {
                throw expressions.Fail($"duplicate argument {PyRepr.Quote(name.Text)} in function definition");
            }

            parameters.Add(new ParameterNode(name.Text, value, name.Line));
        }

        stream.ExpectOperator(")");
        return [.. parameters];
    }
}
