using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Statements, scopes and white space. The answers are jinja2's own.</summary>
public sealed class JinjaStatementTests
{
    [TestCase("{% for x in l %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ loop.revindex0 }};{% endfor %}",
        "1/3TrueFalse2;2/3FalseFalse1;3/3FalseTrue0;")]
    [TestCase("{% for x in l %}[{{ loop.previtem }}{{ x }}{{ loop.nextitem }}]{% endfor %}", "[31][312][12]")]
    [TestCase("{% for x in [1,1,2] %}{{ loop.cycle('a','b') }}{{ loop.changed(x) }}{% endfor %}", "aTruebFalseaTrue")]
    [TestCase("{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }};{% endfor %}", "312;222;")]
    [TestCase("{% for x in [] %}a{% else %}b{% endfor %}", "b")]
    [TestCase("{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "b=1;a=2;C=x;")]
    [TestCase("{% for (a, (b, c)) in [(1,(2,3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "123")]
    [TestCase("{% for c in 'añ😀' %}{{ c }}-{% endfor %}", "a-ñ-😀-")]
    [TestCase("{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "32")]
    [TestCase("{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "3")]
    [TestCase("{% for x in l %}{% break %}{% else %}E{% endfor %}", "E")]
    [TestCase("{% for i in [1,[2,[3]]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}:{{ loop.depth }}{% endif %}{% endfor %}",
        "1:1(2:2(3:3))")]
    public void Loops_tell_where_they_are(string template, string expected) => Expect(template, expected);

    [TestCase("{% set x = 1 %}{% for i in l %}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "3121")]
    [TestCase("{% set x = 1 %}{% for i in l %}{{ x }}{% set x = x + i %}{{ x }};{% endfor %}{{ x }}", "14;12;13;1")]
    [TestCase("{% for i in [1,2] %}{% if i == 2 %}{% set z = 9 %}{% endif %}[{{ z }}]{% endfor %}", "[][9]")]
    [TestCase("{% if true %}{% set x = 1 %}{% endif %}{{ x }}{% if false %}{% set n = 1 %}{% endif %}{{ n }}", "15")]
    [TestCase("{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "6")]
    [TestCase("{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set x %}hi {{ n }}{% endset %}{{ x|upper }}", "12HI 5")]
    [TestCase("{% set x | upper | trim %} hi {% set y = 1 %}{{ y }} {% endset %}[{{ x }}{{ y }}]", "[HI 1]")]
    [TestCase("{% filter replace('a','b')|upper %}aX{% endfilter %}{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}", "BX65")]
    [TestCase("{% macro m(a, b=2) %}{{ a }}-{{ b }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}", "1-2;1-3;4-5;-2;")]
    [TestCase("{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1,2,x=3) }}", "(1, 2){'x': 3}")]
    [TestCase("{% macro m() %}[{{ caller(1,2) }}]{% endmacro %}{% call(a,b) m() %}{{ a }}+{{ b }}{{ n }}{% endcall %}", "[1+25]")]
    [TestCase("{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(3) }}", "321")]
    [TestCase("{% set y = 1 %}{% macro m() %}{{ y }}{% set n = 9 %}{{ n }}{% endmacro %}{% set y = 5 %}{{ m() }}{{ n }}", "595")]
    [TestCase("{% set c = cycler('a','b') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set j = joiner('|') %}{{ j() }}x{{ j() }}", "abax|")]
    [TestCase("{% set q = 5 %}{% for i in l %}{% block x %}[{{ q }}{{ i }}]{% endblock %}{% endfor %}", "[5][5][5]")]
    [TestCase("{% generation %}a{{ n }}{% set zz = 1 %}{% endgeneration %}{{ zz }}", "a5")]
    public void Scopes_end_where_jinja2_ends_them(string template, string expected) => Expect(template, expected);

    [TestCase("a\n{% if true %}\nb\n{% endif %}\nc", "a\nb\nc")]
    [TestCase("a\n  {% if true %}\n  b\n  {% endif %}\n  c", "a\n  b\n  c")]
    [TestCase("a  {%- if true -%}  b  {%- endif -%}  c", "abc")]
    [TestCase("  {%+ if true %}x{% endif %}", "  x")]
    [TestCase("{% if true +%}\nx{% endif %}", "\nx")]
    [TestCase("  {# c #}\nx {#- c -#} y", "xy")]
    [TestCase("{{ 1 }}\n{{ 2 -}}\n\n x", "1\n2x")]
    [TestCase("{%- raw -%} {{ x }} {%- endraw -%} z", "{{ x }}z")]
    [TestCase("a\r\nb\rc\n", "a\nb\nc")]
    [TestCase("a\n\n", "a\n")]
    [TestCase("{{ {'a': {'b': 1}} }}{{ '{{' }}{{ '%}' }}", "{'a': {'b': 1}}{{%}")]
    public void White_space_around_tags_goes_as_in_transformers(string template, string expected) => Expect(template, expected);

    [TestCase("x\n{% if true %}", 2, "Unexpected end of template. Jinja was looking for the following tags: 'elif' or 'else' or 'endif'. "
        + "The innermost block that needs to be closed is 'if'.")]
    [TestCase("{% foo %}", 1, "Encountered unknown tag 'foo'.")]
    [TestCase("\n\n{{ 'a }}", 3, "unexpected char \"'\" at 5")]
    [TestCase("{{ a b }}", 1, "expected token 'end of print statement', got 'b'")]
    [TestCase("{{ [1 }}", 1, "unexpected '}', expected ']'")]
    [TestCase("{{ 1", 1, "unexpected end of template, expected 'end of print statement'.")]
    [TestCase("{# a", 1, "Missing end of comment tag")]
    [TestCase("{% set 1 = 2 %}", 1, "can't assign to 'const'")]
    [TestCase("{% break %}", 1, "'break' outside loop")]
    [TestCase("{{ x|nofilter }}", 1, "No filter named 'nofilter'.")]
    [TestCase("{% for loop in l %}{% endfor %}", 1, "Can't assign to special loop variable in for-loop target")]
    [TestCase("{% macro m(a=1, b) %}{% endmacro %}", 1, "non-default argument follows default argument")]
    public void A_template_that_is_not_well_formed_is_refused_with_its_line(string template, int line, string reason)
    {
        var error = Assert.Throws<ChatTemplateException>(() => ChatTemplate.Parse(template, "my.jinja"))!;
        Assert.That((error.Kind, error.Line, error.Reason), Is.EqualTo((ChatTemplateErrorKind.Syntax, line, reason)));
        Assert.That(error.Message, Is.EqualTo($"my.jinja, line {line}: {reason}"));
    }

    [Test]
    public void A_running_template_that_fails_names_the_line_of_the_statement()
    {
        var error = Jinja.Fail("a\n{% for x in l %}\n  {% if x == 2 %}\n    {{ x + 'a' }}\n  {% endif %}\n{% endfor %}");
        Assert.That(error.Line, Is.EqualTo(4));
        Assert.That(error.Message, Does.StartWith("test, line 4: unsupported operand"));
    }

    [TestCase("{% include 'x' %}")]
    [TestCase("{% extends 'x' %}")]
    [TestCase("{% import 'x' as y %}")]
    [TestCase("{% from 'x' import y %}")]
    public void Other_templates_cannot_be_loaded(string template) =>
        Assert.That(Jinja.Fail(template).Reason, Is.EqualTo("no loader for this environment specified"));

    [Test]
    public void A_filter_that_does_not_exist_matters_in_a_branch_only_when_it_is_taken()
    {
        Assert.That(Jinja.Render("{% if false %}{{ x|nofilter }}{% endif %}ok"), Is.EqualTo("ok"));
        Assert.That(Jinja.Fail("{% if true %}{{ x|nofilter }}{% endif %}").Reason, Is.EqualTo("No filter named 'nofilter' found."));
    }

    private static void Expect(string template, string expected) => Assert.That(Jinja.Render(template), Is.EqualTo(expected));
}
