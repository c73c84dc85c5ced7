using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Operators, literals, comparisons, subscriptions: Python's, with jinja2's undefined values. The answers are jinja2's own.</summary>
public sealed class JinjaExpressionTests
{
    [TestCase("7/2", "3.5")]
    [TestCase("8/2", "4.0")]
    [TestCase("-7//2", "-4")]
    [TestCase("7//-2", "-4")]
    [TestCase("-7%3", "2")]
    [TestCase("7%-3", "-2")]
    [TestCase("-7.5%2", "0.5")]
    [TestCase("-7.5//2", "-4.0")]
    [TestCase("2**10", "1024")]
    [TestCase("2**-1", "0.5")]
    [TestCase("2**3**2", "64")]
    [TestCase("-2**2", "4")]
    [TestCase("9223372036854775807+1", "9223372036854775808")]
    [TestCase("big*big", "15241578753238836750495351562536198787501905199875019052100")]
    [TestCase("big//7", "17636684144620811271604938270")]
    [TestCase("true+true", "2")]
    [TestCase("0.1+0.2", "0.30000000000000004")]
    [TestCase("1e16", "1e+16")]
    [TestCase("1e15", "1000000000000000.0")]
    [TestCase("1e-5", "1e-05")]
    [TestCase("0.0001", "0.0001")]
    [TestCase("float22", "1e+22")]
    [TestCase("1e308*10", "inf")]
    [TestCase("n * 'x%d'", "x%dx%dx%dx%dx%d")]
    [TestCase("0x1F + 0b101 + 0o17 + 1_000", "1051")]
    [TestCase("1_0.5", "10.5")]
    public void Numbers_compute_and_print_as_Pythons_do(string expression, string expected) => Expect(expression, expected);

    [TestCase("1 ~ 2", "12")]
    [TestCase("'a' ~ none ~ true ~ 1.5 ~ [1,'x'] ~ {'a':1}", "aNoneTrue1.5[1, 'x']{'a': 1}")]
    [TestCase("'ab'*3", "ababab")]
    [TestCase("[1]*2 + [3]", "[1, 1, 3]")]
    [TestCase("(1,)+(2,)", "(1, 2)")]
    [TestCase("'a' 'b'", "ab")]
    [TestCase("'\\n\\t\\x41\\u00e9\\101\\q\\\\'", "\n\tAéA\\q\\")]
    [TestCase("[none,true,1,2.0,'x',quote]", "[None, True, 1, 2.0, 'x', 'it\\'s \"x\"']")]
    [TestCase("[\"it's\"]", "[\"it's\"]")]
    [TestCase("[ctrl]", "['a\\x00b\\x1f\\x7f\\u2028é\\\\']")]
    [TestCase("{1:2, none:3, 'a':{'b':[1]}}", "{1: 2, None: 3, 'a': {'b': [1]}}")]
    [TestCase("{1:'a', 1.0:'b', true:'c'}", "{1: 'c'}")]
    [TestCase("(1,)", "(1,)")]
    [TestCase("()", "()")]
    [TestCase("d.items()", "dict_items([('b', 1), ('a', 2), ('C', 'x')])")]
    [TestCase("range(5, 0, -2)|list", "[5, 3, 1]")]
    [TestCase("range(2)", "range(0, 2)")]
    public void Values_join_and_print_as_Pythons_do(string expression, string expected) => Expect(expression, expected);

    [TestCase("1 < 2 < 3", "True")]
    [TestCase("1 < 3 < 2", "False")]
    [TestCase("1 == 1.0", "True")]
    [TestCase("[1] == [1.0]", "True")]
    [TestCase("(1,2) == [1,2]", "False")]
    [TestCase("{'a':1} == {'a':1}", "True")]
    [TestCase("'Z' < 'a'", "True")]
    [TestCase("[1,2] < [1,3]", "True")]
    [TestCase("'a' not in 'abc'", "False")]
    [TestCase("none in mixed", "True")]
    [TestCase("7 in range(5)", "False")]
    [TestCase("'b' in d", "True")]
    [TestCase("n > 9 and 'x'", "False")]
    [TestCase("'' or 0 or []", "[]")]
    [TestCase("not n > 3", "False")]
    [TestCase("1 if true else 2 if false else 3", "1")]
    [TestCase("'😀' > '\\uffff'", "True")]
    public void Comparisons_and_logic_are_Pythons(string expression, string expected) => Expect(expression, expected);

    [TestCase("s[0] ~ s[-1] ~ s[12]", "H😀😀")]
    [TestCase("s|length", "13")]
    [TestCase("s[::-1]", "😀 dlröW olleH")]
    [TestCase("s[5:1:-1]", " oll")]
    [TestCase("s[none:2]", "He")]
    [TestCase("l[1:]", "[1, 2]")]
    [TestCase("l[neg:]", "[3, 1, 2]")]
    [TestCase("l[-1] ~ l.0", "23")]
    [TestCase("nested[0].t.k[1]", "2")]
    [TestCase("nested.0.name", "x")]
    [TestCase("range(5)[1:3]", "range(1, 3)")]
    [TestCase("'abc'[1:]|upper", "BC")]
    public void Subscriptions_count_code_points(string expression, string expected) => Expect(expression, expected);

    [TestCase("undefinedvar", "")]
    [TestCase("undefinedvar ~ 'a'", "a")]
    [TestCase("undefinedvar == other", "True")]
    [TestCase("undefinedvar is defined", "False")]
    [TestCase("undefinedvar|default('x')", "x")]
    [TestCase("none|default('x') ~ none|default('x', true)", "Nonex")]
    [TestCase("undefinedvar|length ~ undefinedvar|list", "0[]")]
    [TestCase("'x' in undefinedvar", "False")]
    [TestCase("d.x is undefined", "True")]
    [TestCase("l[9] ~ d.x ~ l['a'] ~ n['x']", "")]
    [TestCase("(1 if false) is defined", "False")]
    public void Undefined_values_print_as_nothing_and_are_false(string expression, string expected) => Expect(expression, expected);

    [TestCase("undefinedvar.x", ChatTemplateErrorKind.Undefined, "'undefinedvar' is undefined")]
    [TestCase("1 + undefinedvar", ChatTemplateErrorKind.Undefined, "'undefinedvar' is undefined")]
    [TestCase("undefinedvar()", ChatTemplateErrorKind.Undefined, "'undefinedvar' is undefined")]
    [TestCase("undefinedvar < 1", ChatTemplateErrorKind.Undefined, "'undefinedvar' is undefined")]
    [TestCase("d.x.y", ChatTemplateErrorKind.Undefined, "'dict object' has no attribute 'x'")]
    [TestCase("l[9].x", ChatTemplateErrorKind.Undefined, "list object has no element 9")]
    [TestCase("none.x.y", ChatTemplateErrorKind.Undefined, "'None' has no attribute 'x'")]
    [TestCase("namespace(a=1).b.c", ChatTemplateErrorKind.Undefined, "'jinja2.utils.Namespace object' has no attribute 'b'")]
    [TestCase("(1 if false).x", ChatTemplateErrorKind.Undefined,
        "the inline if-expression on line 1 evaluated to false and no else section was defined.")]
    [TestCase("'a'+1", ChatTemplateErrorKind.Type, "can only concatenate str (not \"int\") to str")]
    [TestCase("1+'a'", ChatTemplateErrorKind.Type, "unsupported operand type(s) for +: 'int' and 'str'")]
    [TestCase("[1]+'a'", ChatTemplateErrorKind.Type, "can only concatenate list (not \"str\") to list")]
    [TestCase("1 < 'a'", ChatTemplateErrorKind.Type, "'<' not supported between instances of 'int' and 'str'")]
    [TestCase("1 in 5", ChatTemplateErrorKind.Type, "argument of type 'int' is not iterable")]
    [TestCase("1 in 'abc'", ChatTemplateErrorKind.Type, "'in <string>' requires string as left operand, not int")]
    [TestCase("-'a'", ChatTemplateErrorKind.Type, "bad operand type for unary -: 'str'")]
    [TestCase("l()", ChatTemplateErrorKind.Type, "'list' object is not callable")]
    [TestCase("n[1:]", ChatTemplateErrorKind.Type, "'int' object is not subscriptable")]
    [TestCase("{[]: 1}", ChatTemplateErrorKind.Type, "unhashable type: 'list'")]
    [TestCase("none|length", ChatTemplateErrorKind.Type, "object of type 'NoneType' has no len()")]
    [TestCase("1/0", ChatTemplateErrorKind.Runtime, "division by zero")]
    [TestCase("1%0", ChatTemplateErrorKind.Runtime, "integer modulo by zero")]
    [TestCase("raise_exception('no ' ~ n)", ChatTemplateErrorKind.Raised, "no 5")]
    [TestCase("l.append(4)", ChatTemplateErrorKind.Security, "access to attribute 'append' of 'list' object is unsafe.")]
    [TestCase("d.update({})", ChatTemplateErrorKind.Security, "access to attribute 'update' of 'dict' object is unsafe.")]
    [TestCase("s.__class__.__mro__", ChatTemplateErrorKind.Security, "access to attribute '__class__' of 'str' object is unsafe.")]
    [TestCase("'{0.__class__.__mro__}'.format(n)", ChatTemplateErrorKind.Security, "access to attribute '__class__' of 'int' object is unsafe.")]
    public void What_has_no_answer_fails_in_Pythons_words(string expression, ChatTemplateErrorKind kind, string reason)
    {
        var error = Jinja.Fail("{{ " + expression + " }}");
        Assert.That((error.Kind, error.Reason, error.Line), Is.EqualTo((kind, reason, 1)));
    }

    [TestCase("n is odd and 4 is even and n is divisibleby 5")]
    [TestCase("s is string and l is sequence and d is mapping and d is iterable and n is not iterable")]
    [TestCase("true is boolean and true is number and true is not integer and n is integer and f is float")]
    [TestCase("none is none and none_value is none and none is sameas none")]
    [TestCase("1 is in [1] and n is eq 5 and n is gt(4) and n is le 5 and n is ne(4)")]
    [TestCase("'abc' is lower and 'A1' is upper and '' is not lower")]
    [TestCase("'upper' is filter and 'foo' is not filter and 'odd' is test")]
    [TestCase("range is callable and n is not callable and ('<'|e) is escaped")]
    public void Tests_tell_what_a_value_is(string expression) => Expect(expression, "True");

    private static void Expect(string expression, string expected) =>
        Assert.That(Jinja.Render("{{ " + expression + " }}"), Is.EqualTo(expected));
}
