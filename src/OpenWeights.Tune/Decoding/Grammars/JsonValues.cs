namespace OpenWeights.Tune.Decoding.Grammars;

/// <summary>The expressions of JSON that schemas share.</summary>
internal static class JsonValues
{
    // How deep a value that no schema describes may be nested.
    private const int Depth = 32;

    // A space, or a new line with the indentation of any usual depth: not so much that a model fills an answer with it.
    private const int Indentation = 40;

    /// <summary>White space between tokens, which may be none.</summary>
    internal static GrammarNode Space { get; } = GrammarRule.Of("white space", GrammarNode.Maybe(GrammarNode.AnyOf(
        GrammarNode.Of(" "),
        GrammarNode.Row(GrammarNode.Of("\n"), new GrammarNode.Repeat(new GrammarNode.Chars(CharSet.Any(" \t")), 0, Indentation)))));

    /// <summary>What stands between an object's name and its value.</summary>
    internal static GrammarNode Colon { get; } = GrammarNode.Row(GrammarNode.Of(":"), GrammarNode.Maybe(GrammarNode.Of(" ")));

    /// <summary>What stands between two members or elements.</summary>
    internal static GrammarNode Comma { get; } = GrammarNode.Row(GrammarNode.Of(","), Space);

    /// <summary>Any string.</summary>
    internal static GrammarNode String { get; } = GrammarRule.Of("string", Text(CharAutomaton.Everything));

    /// <summary>A whole number of at most 16 digits.</summary>
    internal static GrammarNode Integer { get; } = GrammarRule.Of("integer", WholeNumber());

    /// <summary>A number: at most 16 digits before the point and after it, and an exponent of at most two.</summary>
    internal static GrammarNode Number { get; } = GrammarRule.Of("number", GrammarNode.Row(
        WholeNumber(),
        GrammarNode.Maybe(GrammarNode.Row(GrammarNode.Of("."), Digits(1, 16))),
        GrammarNode.Maybe(GrammarNode.Row(new GrammarNode.Chars(CharSet.Any("eE")), GrammarNode.Maybe(new GrammarNode.Chars(CharSet.Any("+-"))), Digits(1, 2)))));

    /// <summary>true or false.</summary>
    internal static GrammarNode Boolean { get; } = GrammarNode.AnyOf(GrammarNode.Of("true"), GrammarNode.Of("false"));

    /// <summary>null.</summary>
    internal static GrammarNode Null { get; } = GrammarNode.Of("null");

    private static readonly (GrammarNode Value, GrammarNode Object, GrammarNode Array) s_free = Free();

    /// <summary>Any value.</summary>
    internal static GrammarNode Value => s_free.Value;

    /// <summary>Any object.</summary>
    internal static GrammarNode Object => s_free.Object;

    /// <summary>Any array.</summary>
    internal static GrammarNode Array => s_free.Array;

    /// <summary>Strings of some texts.</summary>
    internal static GrammarNode Text(CharAutomaton texts) => GrammarNode.Row(GrammarNode.Of("\""), new GrammarNode.Texts(texts, InJson: true), GrammarNode.Of("\""));

    /// <summary>An object of members.</summary>
    /// <param name="members">The members and the commas between them.</param>
    internal static GrammarNode Braces(GrammarNode members) => Around("{", members, "}");

    /// <summary>An array of elements.</summary>
    /// <param name="elements">The elements and the commas between them.</param>
    internal static GrammarNode Brackets(GrammarNode elements) => Around("[", elements, "]");

    /// <summary>Between two numbers of digits.</summary>
    internal static GrammarNode Digits(int least, int? most) => new GrammarNode.Repeat(new GrammarNode.Chars(CharSet.Of(('0', '9'))), least, most);

    /// <summary>Items with commas between them.</summary>
    internal static GrammarNode List(GrammarNode item, int least, int? most)
    {
        if (most == 0)
        {
            return GrammarNode.Empty;
        }

        var some = GrammarNode.Row(item, new GrammarNode.Repeat(GrammarNode.Row(Comma, item), Math.Max(least - 1, 0), most - 1));
        return least == 0 ? GrammarNode.Maybe(some) : some;
    }

    // White space stands once where there is nothing inside.
    private static GrammarNode Around(string open, GrammarNode inside, string close) => GrammarNode.Row(GrammarNode.Of(open), Space, inside switch
    {
        GrammarNode.Sequence { Parts.Count: 0 } => GrammarNode.Of(close),
        GrammarNode.Repeat { Least: 0, Most: 1 } maybe => GrammarNode.AnyOf(GrammarNode.Of(close), GrammarNode.Row(maybe.Part, Space, GrammarNode.Of(close))),
        _ => GrammarNode.Row(inside, Space, GrammarNode.Of(close)),
    });

    private static GrammarNode WholeNumber() => GrammarNode.Row(
        GrammarNode.Maybe(GrammarNode.Of("-")),
        GrammarNode.AnyOf(GrammarNode.Of("0"), GrammarNode.Row(new GrammarNode.Chars(CharSet.Of(('1', '9'))), Digits(0, 15))));

    private static (GrammarNode Value, GrammarNode Object, GrammarNode Array) Free()
    {
        GrammarNode[] plain = [String, Number, Boolean, Null];
        var value = GrammarRule.Of("value", GrammarNode.AnyOf(plain));
        var (anObject, anArray) = (GrammarNode.Nothing, GrammarNode.Nothing);
        for (var i = 0; i < Depth; i++)
        {
            anObject = GrammarRule.Of("object", Braces(List(GrammarNode.Row(String, Colon, value), 0, null)));
            anArray = GrammarRule.Of("array", Brackets(List(value, 0, null)));
            value = GrammarRule.Of("value", GrammarNode.AnyOf([anObject, anArray, .. plain]));
        }

        return (value, anObject, anArray);
    }
}
