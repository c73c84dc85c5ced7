using OpenWeights.Tokenizers.Templates.Runtime;
using OpenWeights.Tokenizers.Templates.Scoping;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Ast;

/// <summary><c>{% for target in iter if test recursive %} body {% else %} otherwise {% endfor %}</c></summary>
internal sealed class ForStmt(Target target, Expr iter, Stmt[] body, Stmt[] otherwise, Expr? test, bool isRecursive, int line) : Stmt(line)
{
    private readonly Target testTarget = target.Clone();
    private FrameSetup bodySetup = null!;
    private FrameSetup elseSetup = null!;
    private FrameSetup? testSetup;
    private FunctionScope? testFunction;
    private FunctionScope loopFunction = null!;
    private Slot? loopSlot;

    public override IEnumerable<Node> Children =>
        test is null ? [target, iter, .. body, .. otherwise] : [target, iter, .. body, .. otherwise, test];

    public override void Declare(Symbols symbols) => iter.Declare(symbols);

    public override void Bind(BindFrame frame)
    {
        if (Descendants().OfType<NameTarget>().Any(name => name.Name == "loop"))
        {
            throw TemplateFailure.Syntax("Can't assign to special loop variable in for-loop target", Line);
        }

        var loopFrame = isRecursive ? frame.InnerFunction(isLoopBody: true) : frame.Inner(isLoopBody: true);
        var usesLoop = isRecursive || FindUndeclared(body, "loop").Count > 0;
        if (usesLoop)
        {
            loopFrame.Symbols.DeclareParameter("loop");
        }

        target.DeclareParameters(loopFrame.Symbols);
        DeclareAll(body, loopFrame.Symbols);
        var elseFrame = isRecursive ? frame.InnerBeside(loopFrame) : frame.Inner();
        DeclareAll(otherwise, elseFrame.Symbols);
        BindTest(frame);

        loopFunction = loopFrame.Function;
        loopSlot = usesLoop ? loopFrame.Locate("loop") : null;
        target.Bind(loopFrame);
        iter.Bind(frame);
        BindAll(body, loopFrame);
        BindAll(otherwise, elseFrame);
        bodySetup = new FrameSetup(loopFrame);
        elseSetup = new FrameSetup(elseFrame);
    }

    public override Flow Execute(Activation activation)
    {
        var state = activation.State;
        state.Line = Line;
        var iterable = iter.Evaluate(activation);
        if (!isRecursive)
        {
            return Loop(activation, activation, iterable, 0);
        }

        state.Output.Write(Recurse(activation, iterable, 0));
        return Flow.Next;
    }

    private void BindTest(BindFrame frame)
    {
        if (test is null)
        {
            return;
        }

        var testFrame = frame.InnerFunction();
        testTarget.DeclareParameters(testFrame.Symbols);
        test.Declare(testFrame.Symbols);
        testTarget.Bind(testFrame);
        test.Bind(testFrame);
        testSetup = new FrameSetup(testFrame);
        testFunction = testFrame.Function;
    }

    private PyString Recurse(Activation outer, object? iterable, int depth)
    {
        var text = outer.State.Capture(() => _ = Loop(new Activation(outer.State, loopFunction, outer), outer, iterable, depth));
        return text.Build(outer.State.Autoescape);
    }

    private Flow Loop(Activation activation, Activation outer, object? iterable, int depth)
    {
        var state = activation.State;
        var items = PyConvert.Iterate(state, iterable);
        if (test is not null)
        {
            items = Selected(outer, items);
        }

        var loop = loopSlot is null
            ? null
            : new LoopContext(
                state,
                test is null ? iterable : null,
                items.GetEnumerator(),
                isRecursive ? (inner, innerDepth) => Recurse(outer, inner, innerDepth) : null,
                depth);
        var isElse = true;
        var flow = Flow.Next;
        using var plain = loop is null ? items.GetEnumerator() : null;
        while (flow != Flow.Break && Next(loop, plain, out var item))
        {
            target.Assign(activation, item);
            if (loopSlot is { } slot)
            {
                activation.Set(slot, loop);
            }

            flow = Iteration(activation, item);

            // As in jinja2, an iteration that breaks or continues does not count as one that ran.
            isElse &= flow != Flow.Next;
        }

        bodySetup.Leave(activation);
        return isElse ? Otherwise(activation) : Flow.Next;
    }

    private Flow Iteration(Activation activation, object? item)
    {
        var state = activation.State;
        bodySetup.Enter(activation);
        if (!state.Tracing || state.Turn != 0)
        {
            return Run(body, activation);
        }

        // The outermost loop over messages attributes its output to their turns.
        var outerInteger = state.LoopInteger;
        state.Turn = state.TurnOf(item);
        state.LoopInteger = item as long?;
        var flow = Run(body, activation);
        state.Turn = 0;
        state.LoopInteger = outerInteger;
        return flow;
    }

    private Flow Otherwise(Activation activation)
    {
        if (otherwise.Length == 0)
        {
            return Flow.Next;
        }

        elseSetup.Enter(activation);
        var flow = Run(otherwise, activation);
        elseSetup.Leave(activation);
        return flow;
    }

    private IEnumerable<object?> Selected(Activation outer, IEnumerable<object?> items)
    {
        var activation = new Activation(outer.State, testFunction!, outer);
        testSetup!.Enter(activation);
        foreach (var item in items)
        {
            testTarget.Assign(activation, item);
            if (PyConvert.IsTrue(test!.Evaluate(activation)))
            {
                yield return item;
            }
        }
    }

    private static bool Next(LoopContext? loop, IEnumerator<object?>? plain, out object? item)
    {
        if (loop is not null)
        {
            return loop.Next(out item);
        }

        var found = plain!.MoveNext();
        item = found ? plain.Current : null;
        return found;
    }
}
