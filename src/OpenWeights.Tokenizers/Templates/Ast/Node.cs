using OpenWeights.Tokenizers.Templates.Scoping;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary>A part of a parsed template. It is parsed, then its names are declared and bound to variables, then it runs, any number of times.</summary>
internal abstract class Node(int line)
{
    public int Line { get; } = line;

    /// <summary>Its child nodes, in the order in which jinja2 visits them.</summary>
    public virtual IEnumerable<Node> Children => [];

    /// <summary>Notes the names that it reads and sets in the scope around it; those of scopes of its own are not noted.</summary>
    public virtual void Declare(Symbols symbols)
    {
        foreach (var child in Children)
        {
            child.Declare(symbols);
        }
    }

    /// <summary>Binds the names that it reads and sets to variables.</summary>
    public virtual void Bind(BindFrame frame)
    {
        foreach (var child in Children)
        {
            child.Bind(frame);
        }
    }

    /// <summary>Which of some names are read somewhere inside some nodes before they are set there.</summary>
    public static HashSet<string> FindUndeclared(IEnumerable<Node> nodes, params string[] names)
    {
        var (wanted, found) = (new HashSet<string>(names), new HashSet<string>());
        foreach (var node in nodes)
        {
            Search(node);
        }

        return found;

        void Search(Node node)
        {
            switch (node)
            {
                case NameExpr name when wanted.Contains(name.Name):
                    _ = found.Add(name.Name);
                    break;
                case NameTarget target:
                    _ = wanted.Remove(target.Name);
                    break;
                case ParameterNode parameter:
                    _ = wanted.Remove(parameter.Name);
                    break;
                case BlockStmt:
                    break;
                default:
                    foreach (var child in node.Children)
                    {
                        Search(child);
                    }

                    break;
            }
        }
    }

    /// <summary>This node and everything inside it.</summary>
    public IEnumerable<Node> Descendants()
    {
        yield return this;
        foreach (var inner in Children.SelectMany(child => child.Descendants()))
        {
            yield return inner;
        }
    }
}

/// <summary>A part that has a value.</summary>
internal abstract class Expr(int line) : Node(line)
{
    /// <summary>The height of the tree under it, which the parser keeps within bounds.</summary>
    public int Height { get; set; } = 1;

    public abstract object? Evaluate(Activation activation);
}

/// <summary>Control flow after a statement.</summary>
internal enum Flow
{
    Next,
    Break,
    Continue,
}

/// <summary>A part that does something.</summary>
internal abstract class Stmt(int line) : Node(line)
{
    public abstract Flow Execute(Activation activation);

    /// <summary>Executes statements until one of them breaks or continues a loop.</summary>
    public static Flow Run(Stmt[] body, Activation activation)
    {
        foreach (var statement in body)
        {
            activation.State.Step();
            var flow = statement.Execute(activation);
            if (flow != Flow.Next)
            {
                return flow;
            }
        }

        return Flow.Next;
    }

    protected static void DeclareAll(IEnumerable<Node> nodes, Symbols symbols)
    {
        foreach (var node in nodes)
        {
            node.Declare(symbols);
        }
    }

    protected static void BindAll(IEnumerable<Node> nodes, BindFrame frame)
    {
        foreach (var node in nodes)
        {
            node.Bind(frame);
        }
    }
}
