using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Filters, string methods and formats. The answers are those of jinja2 and CPython.</summary>
public sealed class JinjaFilterTests
{
    [TestCase("ls|sort", "['A', 'b', 'c']")]
    [TestCase("ls|sort(case_sensitive=true, reverse=true)", "['c', 'b', 'A']")]
    [TestCase("nested|sort(attribute='name,v')|map(attribute='v')|list", "[1, 2, 3]")]
    [TestCase("nested|sort(attribute='name', reverse=true)|map(attribute='v')|list", "[3, 2, 1]")]
    [TestCase("d|dictsort", "[('a', 2), ('b', 1), ('C', 'x')]")]
    [TestCase("d|dictsort(true)", "[('C', 'x'), ('a', 2), ('b', 1)]")]
    [TestCase("d|items|list", "[('b', 1), ('a', 2), ('C', 'x')]")]
    [TestCase("l|max ~ l|min ~ l|sum ~ l|first ~ l|last", "31632")]
    [TestCase("nested|sum(attribute='v')", "6")]
    [TestCase("nested|max(attribute='v')", "{'name': 'Y', 'v': 3}")]
    [TestCase("ls|join('-') ~ nested|join(',', attribute='name')", "b-A-cx,Y,y")]
    [TestCase("[1,1.0,true,'a','A']|unique|list", "[1, 'a']")]
    [TestCase("l|batch(2,'x')|list", "[[3, 1], [2, 'x']]")]
    [TestCase("[1,2,3,4,5]|slice(3,'x')|list", "[[1, 2], [3, 4], [5, 'x']]")]
    [TestCase("ls|map('upper')|join", "BAC")]
    [TestCase("nested|map(attribute='t.k.0', default=0)|list", "[1, 0, 0]")]
    [TestCase("nested|selectattr('v','equalto',3)|list|length", "1")]
    [TestCase("nested|rejectattr('t','defined')|map(attribute='name')|list", "['Y', 'y']")]
    [TestCase("mixed|select('string')|list ~ l|reject('odd')|list", "['a'][2]")]
    [TestCase("nested|groupby('name')|map('last')|map('length')|list", "[1, 2]")]
    [TestCase("(nested|groupby('name'))[1].grouper", "Y")]
    [TestCase("l|reverse|list ~ s|reverse", "[2, 1, 3]😀 dlröW olleH")]
    public void Sequences_are_sorted_selected_and_grouped(string expression, string expected) => Expect(expression, expected);

    [TestCase("ws|trim ~ '|' ~ ws.lstrip() ~ '|' ~ 'xyaxy'.strip('xy')", "pad|pad \n |a")]
    [TestCase("' a  b '.split() ~ 'a,b,c'.split(',',1) ~ 'a,b,c'.rsplit(',',1)", "['a', 'b']['a', 'b,c']['a,b', 'c']")]
    [TestCase("' a  b c '.split(none,1) ~ ' a  b c '.rsplit(none,1)", "['a', 'b c '][' a  b', 'c']")]
    [TestCase("'a\\nb\\r\\nc\\x0bd'.splitlines()", "['a', 'b', 'c', 'd']")]
    [TestCase("'a.b.c'.partition('.') ~ 'a.b.c'.rpartition('.')", "('a', '.', 'b.c')('a.b', '.', 'c')")]
    [TestCase("s.find('😀') ~ s.rfind('l') ~ s.find('zz') ~ 'aaa'.count('aa')", "129-11")]
    [TestCase("s.startswith(('x','He')) ~ s.endswith('😀') ~ s.startswith('e',1)", "TrueTrueTrue")]
    [TestCase("'aaa'|replace('a','b',2) ~ 'abc'.replace('','-')", "bba-a-b-c-")]
    [TestCase("'abcd'.center(9,'*') ~ '-42'.zfill(5) ~ 'a\\tb'.expandtabs(4)", "***abcd**-0042a   b")]
    [TestCase("\"it's a dog's\".title() ~ \"it's a dog's (x) -y\"|title", "It'S A Dog'SIt's A Dog's (X) -Y")]
    [TestCase("'ß ŉ ΑΣ ﬁ'.upper() ~ '|' ~ 'ΑΣ İ'.lower() ~ '|' ~ 'ǆ ﬁ'.title()", "SS ʼN ΑΣ FI|ας i̇|ǅ Fi")]
    [TestCase("'AbC'.swapcase() ~ 'ABC dEF'|capitalize", "aBcAbc def")]
    [TestCase("'12'.isdigit() ~ '1²'.isdigit() ~ '½'.isnumeric() ~ ''.isdigit() ~ 'Ab'.istitle()", "TrueTrueTrueFalseTrue")]
    [TestCase("'a\\nb\\n\\nc'|indent(2) ~ '|' ~ 'a\\nb'|indent('--', true)", "a\n  b\n\n  c|--a\n--b")]
    [TestCase("long|truncate(20) ~ '|' ~ long|truncate(20, true)", "the quick brown...|the quick brown f...")]
    [TestCase("long|wordwrap(20)", "the quick brown fox\njumps over the lazy\ndog")]
    [TestCase("long|wordcount", "9")]
    [TestCase("'42.7'|int ~ 'x'|int(-1) ~ 'ff'|int(0,16) ~ ' 1_000 '|int", "42-12551000")]
    [TestCase("'3.5'|float ~ 'x'|float(1.5) ~ 'inf'|float", "3.51.5inf")]
    [TestCase("2.675|round(2) ~ '|' ~ 2.5|round ~ '|' ~ 25|round(-1) ~ '|' ~ 42.55|round(1,'floor')", "2.67|2.0|20|42.5")]
    [TestCase("123456789|filesizeformat ~ '|' ~ 1|filesizeformat", "123.5 MB|1 Byte")]
    [TestCase("'<p>x  &amp; y</p><!-- z -->'|striptags", "x & y")]
    [TestCase("{'a b':'c&d','e':1}|urlencode ~ '|' ~ 'a/b c?é'|urlencode", "a+b=c%26d&e=1|a/b%20c%3F%C3%A9")]
    public void Texts_are_changed_as_Python_changes_them(string expression, string expected) => Expect(expression, expected);

    [TestCase("'%5.2f|%-6s|%+d|%x|%o|%e|%g|%c|%r|%%' % (3.14159,'ab',5,255,8,12345.678,0.0001,'x','q')",
        " 3.14|ab    |+5|ff|10|1.234568e+04|0.0001|x|'q'|%")]
    [TestCase("'%(a)s %(b)05d' % {'a':1,'b':42}", "1 00042")]
    [TestCase("'%.0f %.0f' % (0.5, 1.5)", "0 2")]
    [TestCase("'%s %s'|format(1,'x')", "1 x")]
    [TestCase("'{} {a} {0!r} {0:>4}'.format('x', a=1)", "x 1 'x'    x")]
    [TestCase("'{:05d}|{:+d}|{:#x}|{:,}|{:_}|{:b}'.format(42,42,255,1234567,1234567,5)", "00042|+42|0xff|1,234,567|1_234_567|101")]
    [TestCase("'{:.2f}|{:e}|{:g}|{:.1%}|{:08.2f}|{:^7}'.format(3.14159,12345.678,0.00001,0.123,-3.14159,'b')",
        "3.14|1.234568e+04|1e-05|12.3%|-0003.14|   b   ")]
    [TestCase("'{a.b}{a[b]}{{}}{:{w}}'.format('x', a=d, w=3)", "11{}x  ")]
    public void Formats_are_Pythons(string expression, string expected) => Expect(expression, expected);

    [TestCase("d|tojson", "{\"b\": 1, \"a\": 2, \"C\": \"x\"}")]
    [TestCase("d|tojson(sort_keys=true, separators=(',',':'))", "{\"C\":\"x\",\"a\":2,\"b\":1}")]
    [TestCase("mixed|tojson", "[1, \"a\", null, true, 2.0, [1], {\"k\": \"v\"}]")]
    [TestCase("[[],{},[1,{'b':none}]]|tojson(indent=2)", "[\n  [],\n  {},\n  [\n    1,\n    {\n      \"b\": null\n    }\n  ]\n]")]
    [TestCase("ctrl|tojson", "\"a\\u0000b\\u001f\u007f\u2028é\\\\\"")]
    [TestCase("'é😀'|tojson(ensure_ascii=true)", "\"\\u00e9\\ud83d\\ude00\"")]
    [TestCase("{1:2, none:3, true:4, 1.5:(1,2)}|tojson", "{\"1\": 4, \"null\": 3, \"1.5\": [1, 2]}")]
    [TestCase("[1e22, 1.0, big, 1e308*10]|tojson", "[1e+22, 1.0, 123456789012345678901234567890, Infinity]")]
    [TestCase("html|tojson", "\"<a href='x'>\\\"&</a>\"")]
    public void Json_is_written_as_json_dumps_writes_it(string expression, string expected) => Expect(expression, expected);

    [TestCase("html|e", "&lt;a href=&#39;x&#39;&gt;&#34;&amp;&lt;/a&gt;")]
    [TestCase("html|e|e|length == html|e|length", "True")]
    [TestCase("('<b>'|safe) + '<c>'", "<b>&lt;c&gt;")]
    [TestCase("'<a>' + ('<b>'|safe)", "&lt;a&gt;<b>")]
    [TestCase("('<b>'|safe) ~ '<c>'", "<b><c>")]
    [TestCase("('%s'|safe) % '<'", "&lt;")]
    [TestCase("(', '|safe).join(['<','a'])", "&lt;, a")]
    public void Safe_text_escapes_what_is_added_to_it(string expression, string expected) => Expect(expression, expected);

    [Test]
    public void The_time_is_told_by_the_clock_that_is_given()
    {
        const string Format = "%Y-%m-%d %H:%M:%S|%a %A %b %B %j|%I %p|%-d %e|%U %W %V %u|%F %T|%%";
        Assert.That(
            Jinja.Render("{{ strftime_now('" + Format + "') }}"),
            Is.EqualTo("2025-07-04 12:34:56|Fri Friday Jul July 185|12 PM|4  4|26 26 27 5|2025-07-04 12:34:56|%"));
    }

    [TestCase("tojson", "[namespace(a=1)]", "Object of type Namespace is not JSON serializable")]
    [TestCase("tojson", "undefinedvar", "Object of type Undefined is not JSON serializable")]
    [TestCase("tojson", "{(1,2): 3}", "keys must be str, int, float, bool or None, not tuple")]
    [TestCase("tojson", "l|map('string')", "Object of type generator is not JSON serializable")]
    [TestCase("length", "l|map('string')", "object of type 'generator' has no len()")]
    [TestCase("sort", "[1, 'a']", "'<' not supported between instances of 'str' and 'int'")]
    [TestCase("list", "5", "'int' object is not iterable")]
    [TestCase("join", "none", "'NoneType' object is not iterable")]
    public void A_filter_refuses_what_Python_refuses(string filter, string value, string reason)
    {
        var error = Jinja.Fail("{{ (" + value + ")|" + filter + " }}");
        Assert.That((error.Kind, error.Reason), Is.EqualTo((ChatTemplateErrorKind.Type, reason)));
    }

    private static void Expect(string expression, string expected) =>
        Assert.That(Jinja.Render("{{ " + expression + " }}"), Is.EqualTo(expected));
}
