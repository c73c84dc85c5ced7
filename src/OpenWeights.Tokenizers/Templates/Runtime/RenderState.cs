using OpenWeights.Tokenizers.Templates.Builtins;
using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Everything that one render of a template reads and changes.</summary>
internal sealed class RenderState
{
    private readonly Dictionary<string, object?> variables;
    private readonly Dictionary<string, object?> exports = [];
    private readonly List<int[]> mergedTurns = [];
    private long steps;
    private long copied;
    private int depth;

    public RenderState(Dictionary<string, object?> variables, DateTime now, bool tracing)
    {
        this.variables = variables;
        Now = now;
        Tracing = tracing;
        Output = new TextBuilder(this);
    }

    /// <summary>Whether the origin of characters is kept.</summary>
    public bool Tracing { get; }

    /// <summary>The local time that <c>strftime_now</c> returns.</summary>
    public DateTime Now { get; }

    /// <summary>Where statements write to: the document, or the buffer of a macro, call or set block.</summary>
    public TextBuilder Output { get; private set; }

    /// <summary>The line of the statement or call that runs.</summary>
    public int Line { get; set; }

    public bool Autoescape { get; set; }

    /// <summary>Whose turn is being written, in the terms of <see cref="Mark.Turn"/>.</summary>
    public int Turn { get; set; }

    /// <summary>The item of the innermost loop over integers, while no turn is being written.</summary>
    public long? LoopInteger { get; set; }

    /// <summary>The messages that a negative turn merges, from 0.</summary>
    public IReadOnlyList<int[]> MergedTurns => mergedTurns;

    public TextBuilder NewText() => new(this);

    /// <summary>Counts work that does not depend on the length of strings.</summary>
    public void Step(long count = 1)
    {
        steps += count;
        if (steps > RenderLimits.Steps)
        {
            throw TemplateFailure.Limit($"the template was stopped after {RenderLimits.Steps:N0} steps: does it loop without an end?");
        }
    }

    /// <summary>Counts characters that are copied and checks the length of the string that they make.</summary>
    public void CountText(long characters, long total)
    {
        copied += characters;
        if (total > RenderLimits.TextLength)
        {
            throw TemplateFailure.Limit($"the template was stopped: it made a text of more than {RenderLimits.TextLength:N0} characters");
        }

        if (copied > RenderLimits.CopiedCharacters)
        {
            throw TemplateFailure.Limit($"the template was stopped after copying {RenderLimits.CopiedCharacters:N0} characters");
        }
    }

    /// <summary>Runs a body that writes to a buffer of its own, one call deeper.</summary>
    public TextBuilder Capture(Action body)
    {
        TemplateFailure.GuardStack();
        if (++depth > RenderLimits.CallDepth)
        {
            throw TemplateFailure.Limit($"maximum recursion depth exceeded: {RenderLimits.CallDepth} macros or loops inside each other");
        }

        var outer = Output;
        Output = new TextBuilder(this);
        try
        {
            body();
            return Output;
        }
        finally
        {
            Output = outer;
            depth--;
        }
    }

    /// <summary>A variable of the template, the input or the environment; <see cref="Missing.Value"/> if there is none.</summary>
    public object? Resolve(string name)
    {
        if (exports.TryGetValue(name, out var value) || variables.TryGetValue(name, out value))
        {
            return value;
        }

        return Globals.TryGet(name, out var function) ? function : Missing.Value;
    }

    /// <summary>Makes a variable of the template's top level known to its blocks.</summary>
    public void Export(string name, object? value) => exports[name] = value;

    /// <summary>The turn that a loop's item stands for; 0 if it stands for none.</summary>
    public int TurnOf(object? item)
    {
        if (item is not PyDict dict)
        {
            return 0;
        }

        if (dict.Turn != 0)
        {
            return dict.Turn;
        }

        var owners = Provenance.Owners(dict);
        if (owners.Count <= 1)
        {
            return owners.Count == 0 ? 0 : owners.Min + 1;
        }

        var merged = owners.ToArray();
        var known = mergedTurns.FindIndex(turn => turn.AsSpan().SequenceEqual(merged));
        if (known < 0)
        {
            mergedTurns.Add(merged);
            known = mergedTurns.Count - 1;
        }

        return -1 - known;
    }
}

/// <summary>
/// What one render may spend. A conversation of a thousand messages takes well under a hundredth of it; a template that runs away
/// is stopped within seconds.
/// </summary>
internal static class RenderLimits
{
    /// <summary>Statements executed and items gone through.</summary>
    public const long Steps = 5_000_000;

    /// <summary>Characters (UTF-16) copied, counting every intermediate string.</summary>
    public const long CopiedCharacters = 200_000_000;

    /// <summary>The longest string.</summary>
    public const int TextLength = 1 << 25;

    /// <summary>Macros and recursive loops inside each other.</summary>
    public const int CallDepth = 200;

    /// <summary>The largest integer, in bits.</summary>
    public const int IntegerBits = 1 << 14;

    /// <summary>Statements and expressions inside each other in a template's text.</summary>
    public const int SyntaxDepth = 120;

    /// <summary>The height of the tree of one expression, which chains of operators grow too.</summary>
    public const int ExpressionHeight = 600;
}
