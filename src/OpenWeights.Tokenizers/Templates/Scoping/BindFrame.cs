namespace OpenWeights.Tokenizers.Templates.Scoping;

/// <summary>The place in a template whose names are being bound: its scope and the function it is in.</summary>
internal sealed class BindFrame
{
    private BindFrame(Symbols symbols, FunctionScope function)
    {
        Symbols = symbols;
        Function = function;
    }

    public Symbols Symbols { get; }

    public FunctionScope Function { get; }

    /// <summary>Whether what is set here is set for the whole template.</summary>
    public bool IsTopLevel { get; private init; }

    /// <summary>Whether this is inside an if, where an unknown filter is an error only when it is reached.</summary>
    public bool IsSoft { get; private init; }

    /// <summary>Whether <c>break</c> and <c>continue</c> have a loop to act on.</summary>
    public bool IsInLoop { get; private init; }

    /// <summary>The outermost frame of a template or of a block.</summary>
    public static BindFrame Root(bool isTopLevel) => new(new Symbols(), new FunctionScope(null, 0)) { IsTopLevel = isTopLevel };

    /// <summary>A scope in the same function.</summary>
    public BindFrame Inner(bool isLoopBody = false) =>
        new(new Symbols(Symbols), Function) { IsInLoop = isLoopBody || IsInLoop };

    /// <summary>A scope beside another one, in the same function as that.</summary>
    public BindFrame InnerBeside(BindFrame sibling) => new(new Symbols(Symbols), sibling.Function) { IsInLoop = IsInLoop };

    /// <summary>A scope that is a function of its own.</summary>
    public BindFrame InnerFunction(bool isLoopBody = false) =>
        new(new Symbols(Symbols), new FunctionScope(Function, Symbols.Level + 1)) { IsInLoop = isLoopBody };

    /// <summary>The same scope, inside an if.</summary>
    public BindFrame Soft() => new(Symbols, Function) { IsTopLevel = IsTopLevel, IsInLoop = IsInLoop, IsSoft = true };

    public Slot Locate(string name) => Function.Locate(Symbols.Ref(name));
}
