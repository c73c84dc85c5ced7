using NUnit.Framework;
using OpenWeights.Tune.Decoding.Grammars;

namespace OpenWeights.Tune.Tests.Decoding.Grammars;

/// <summary>Grammars in llama.cpp's notation.</summary>
public sealed class GbnfGrammarTests
{
    private const string Arithmetic = """
        root  ::= (expr "=" ws term "\n")+
        expr  ::= term ([-+*/] term)*
        term  ::= ident | num | "(" ws expr ")" ws # a comment
        ident ::= [a-z] [a-z0-9_]* ws
        num   ::= [0-9]+ ws
        ws    ::= [ \t\n]*
        """;

    [TestCase("root ::= \"yes\" | \"no\"", "yes", true)]
    [TestCase("root ::= \"yes\" | \"no\"", "yesno", false)]
    [TestCase("root ::= \"a\"{2,3}", "aa", true)]
    [TestCase("root ::= \"a\"{2,3}", "aaaa", false)]
    [TestCase("root ::= \"a\"{2}", "aa", true)]
    [TestCase("root ::= \"a\"{2,}", "aaaaa", true)]
    [TestCase("root ::= [^x-z]+", "aé漢😀", true)]
    [TestCase("root ::= [^x-z]+", "ay", false)]
    [TestCase("root ::= [a\\]\\-\\x41]*", "a]-A", true)]
    [TestCase("root ::= .", "漢", true)]
    [TestCase("root ::= \"\\u00e9\\\"\\\\\"", "é\"\\", true)]
    [TestCase("root ::= a (\"|\" a)?\na ::= \"x\"\n  | \"y\"", "x|y", true)]
    [TestCase("# a comment\nroot ::= (\n  \"a\" # one\n  | \"b\"\n)\n", "b", true)]
    [TestCase("root ::= r\nr ::= \"(\" r \")\" | \"\"", "((()))", true)]
    [TestCase("root ::= r\nr ::= \"(\" r \")\" | \"\"", "((())", false)]
    [TestCase("root ::= \"a\" root | \"b\"", "aaaab", true)]
    [TestCase(Arithmetic, "(a+1)*b=7\n", true)]
    [TestCase(Arithmetic, "(a+1*b=7\n", false)]
    public void A_grammar_accepts_its_texts(string grammar, string text, bool accepted) => Assert.That(GbnfGrammar.Parse(grammar).Matches(text), Is.EqualTo(accepted));

    [TestCase("root ::= a", "line 1", "\"a\" is not defined")]
    [TestCase("start ::= \"a\"", "root", "no rule")]
    [TestCase("root ::= root \"a\" | \"b\"", "root", "begins with itself")]
    [TestCase("root ::= e root \"a\" | \"b\"\ne ::= \"x\"?", "root", "begins with itself")]
    [TestCase("root ::= a\na ::= b\nb ::= a \"x\" | \"y\"", "begins with itself", "")]
    [TestCase("root ::= \"a", "line 1", "not closed")]
    [TestCase("root ::= [a", "line 1", "not closed")]
    [TestCase("root ::= (\"a\"", "line 1", "not closed")]
    [TestCase("root ::= \"a\"\nroot ::= \"b\"", "line 2", "twice")]
    [TestCase("root ::= \"a\" )", "line 1, column 14", "cannot stand here")]
    [TestCase("root = \"a\"", "line 1", "::=")]
    [TestCase("root ::= \"\\q\"", "line 1", "\\q")]
    [TestCase("root ::= \"a\"{3,2}", "line 1", "repetition")]
    [TestCase("root ::= \"a\"{9999}", "line 1", "2000")]
    [TestCase("root ::= <[12]>", "line 1", "token's number")]
    [TestCase("root ::= \"a\" root", "no text", "")]
    public void A_malformed_grammar_is_refused_with_its_place(string grammar, string place, string reason) =>
        Assert.That(() => GbnfGrammar.Parse(grammar), Throws.TypeOf<GrammarException>().With.Message.Contains(place).And.Message.Contains(reason));

    [Test]
    public void Tokens_of_a_grammar_keep_to_it([Range(0, 9)] int seed)
    {
        var grammar = GbnfGrammar.Parse("root ::= [a-c é]{3,6} \"!\"?");
        var text = Walk.Random(grammar, SmallVocabulary.Vocabulary, SmallVocabulary.BytesOf, SmallVocabulary.End, new Random(seed));
        Assert.That(text, Does.Match("^[a-c é]{3,6}!?$"));
    }

    [Test]
    public void A_special_token_stands_where_the_grammar_names_it()
    {
        var vocabulary = TokenVocabulary.Of([[], [0xFF, .. "<think>"u8, 0xFE], [.. "<think>"u8], [.. "a"u8]]);
        var constraint = new GrammarConstraint(GbnfGrammar.Parse("root ::= <think> \"a\""), vocabulary, [0]);
        Assert.That(Walk.Allowed(constraint, 4), Is.EqualTo(new[] { 1, 2 }));
        constraint.Accept(1);
        Assert.That(Walk.Allowed(constraint, 4), Is.EqualTo(new[] { 3 }));
    }

    [Test]
    public void Where_no_token_can_go_on_the_text_ends()
    {
        var vocabulary = TokenVocabulary.Of([[], [.. "a"u8]]);
        var constraint = new GrammarConstraint(GbnfGrammar.Parse("root ::= \"b\""), vocabulary, [0]);
        Assert.That(Walk.Allowed(constraint, 2), Is.EqualTo(new[] { 0 }));
    }
}
