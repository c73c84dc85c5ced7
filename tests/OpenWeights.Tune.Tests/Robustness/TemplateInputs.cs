using System.Text;
using System.Text.Json.Nodes;
using OpenWeights.Testing;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Tests.Robustness;

/// <summary>Chat templates: the project's own with pieces of Jinja put in, and expressions made from the language's grammar with extreme numbers.</summary>
internal sealed class TemplateInputs : FuzzedReader
{
    private static readonly string[] s_words =
    [
        "{{ ", " }}", "{% ", " %}", "{%- ", " -%}", "{# ", " #}", "for x in messages", "for x in range(99999999)", "endfor", "if ", "elif ", "else", "endif", "set x = ", "set ns.x = ", "endset", "macro f(a, b=1)",
        "endmacro", "call f()", "endcall", "filter upper", "endfilter", "generation", "endgeneration", "break", "continue", "raw", "endraw", "namespace(x=1)", "loop.index", "loop.previtem", "loop(x.children)", "recursive",
        "messages", "message.content", "tools", "x", "f(f)", "caller()", "self", "''", "'a'", "'%s' % ", "'{}'.format(", "|tojson", "|length", "|default('x')", "is defined", "is string", "not ", " and ", "~", "**", "*", "//", "%", "+", "-",
        "[", "]", "(", ")", "{", "}", ".", ",", ":", "|", "999999999", "9999999999999999999999", "1e308", "-1", "0", "\\", "'", "\"", "\n", "<|im_start|>", "__class__", ".__init__", "|attr('__class__')", "cycler", "joiner()", "lipsum()", "dict", "range",
    ];

    private static readonly string[] s_atoms =
    [
        "0", "1", "-1", "2", "7", "100", "1000000", "999999999", "2147483648", "99999999999999999999999", "1.5", "1e308", "'a'", "''", "'%9999999d'", "'{:>99999999}'", "'é😀'", "none", "true", "[]", "[1, 2]", "{}", "{'a': 1}", "messages", "tools", "x", "range(10)", "range(999999999)",
        "messages[0].content", "namespace()", "loop", "'%.99999999f'", "'{0[a]}'", "'{0.__class__}'", "(1, 2)", "'a' * 100", "'\\n'",
    ];

    private static readonly string[] s_filters =
    [
        "abs", "batch", "capitalize", "center", "count", "default", "dictsort", "escape", "filesizeformat", "first", "float", "forceescape", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list", "lower", "map",
        "max", "min", "pprint", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "slice", "sort", "string", "striptags", "sum", "title", "tojson", "trim", "truncate", "unique", "upper", "urlencode", "urlize", "wordcount", "wordwrap", "xmlattr", "attr",
    ];

    private static readonly string[] s_methods =
    [
        "split", "rsplit", "strip", "lstrip", "rstrip", "replace", "startswith", "endswith", "find", "rfind", "index", "count", "upper", "lower", "title", "center", "ljust", "rjust", "zfill", "expandtabs", "join", "format", "format_map", "splitlines", "partition", "rpartition", "translate",
        "encode", "items", "keys", "values", "get", "append", "pop", "update", "copy", "isdigit", "casefold", "swapcase", "removeprefix", "removesuffix", "bit_length", "to_bytes",
    ];

    private static readonly string[] s_operators = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "not in", "and", "or", "is", "if"];

    private readonly string[] _seeds = [.. SharedFiles.FindFiles("*.jinja", "fixtures", "chat-templates", "own").Select(File.ReadAllText)];

    private readonly ChatTemplateInput _input = new()
    {
        Messages = JsonNode.Parse("""[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hé 😀"}, {"role": "assistant", "content": "<think>a</think>b", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": [1, 2.5, null]}}}]}, {"role": "tool", "content": "7"}, {"role": "assistant", "content": "c"}]""")!.AsArray(),
        Tools = JsonNode.Parse("""[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]"""),
        SpecialTokens = new Dictionary<string, string> { ["bos_token"] = "<s>", ["eos_token"] = "</s>" },
        Now = new DateTimeOffset(2025, 1, 2, 3, 4, 5, TimeSpan.Zero),
    };

    public override string Name => "template";

    // What a render may copy in all is far more than a template is long; RenderLimits say how much.
    public override long Constant => 4L << 30;

    public override byte[] Make(Mutation random)
    {
        var text = random.Next(3) switch
        {
            0 => random.Text(random.Of(_seeds), s_words),
            1 => Statements(random, 3),
            _ => $"{{{{ {Expression(random, 4)} }}}}",
        };
        return Encoding.UTF8.GetBytes(text);
    }

    public override void Read(byte[] input, string folder)
    {
        var template = ChatTemplate.Parse(Encoding.UTF8.GetString(input), "template");
        _ = template.Render(_input);
        _ = template.RenderWithSpans(_input);
    }

    public override bool IsDocumented(Exception error) => error is ChatTemplateException or InvalidDataException;

    private static string Expression(Mutation random, int depth)
    {
        if (depth == 0 || random.OneIn(5))
        {
            return random.Of(s_atoms);
        }

        string Inner() => Expression(random, depth - 1);
        string Arguments() => string.Join(", ", Enumerable.Range(0, random.Next(4)).Select(_ => random.OneIn(8) ? $"{random.Of((string[])["width", "default", "attribute", "reverse", "indent", "fill_with"])}={Inner()}" : Inner()));
        return random.Next(8) switch
        {
            0 => $"({Inner()}){random.Of((string[])["", "|string", "|list"])}|{random.Of(s_filters)}",
            1 => $"({Inner()})|{random.Of(s_filters)}({Arguments()})",
            2 => $"({Inner()}).{random.Of(s_methods)}({Arguments()})",
            3 => $"({Inner()})[{Inner()}{random.Of((string[])["", ":", "::" + Inner(), ":" + Inner()])}]",
            4 => $"{{'a': {Inner()}, {Inner()}: 1}}",
            5 => $"[{Inner()}, {Inner()}]",
            _ => $"({Inner()}) {random.Of(s_operators)} ({Inner()})",
        };
    }

    private static string Statements(Mutation random, int depth)
    {
        var text = new StringBuilder();
        for (var i = 1 + random.Next(2); i > 0; i--)
        {
            string Body() => depth == 0 ? "." : Statements(random, depth - 1);
            string Value() => Expression(random, 2);
            _ = text.Append(random.Next(9) switch
            {
                0 => $"{{% for x in {Value()} %}}{Body()}{{% else %}}e{{% endfor %}}",
                1 => $"{{% for x in {Value()} recursive %}}{Body()}{{{{ loop({Value()}) }}}}{{% endfor %}}",
                2 => $"{{% if {Value()} %}}{Body()}{{% elif {Value()} %}}{Body()}{{% endif %}}",
                3 => $"{{% set x %}}{Body()}{{% endset %}}",
                4 => $"{{% macro f(a={Value()}) %}}{Body()}{{{{ f(a) }}}}{{% endmacro %}}{{{{ f({Value()}) }}}}",
                5 => $"{{% filter {random.Of(s_filters)} %}}{Body()}{{% endfilter %}}",
                6 => $"{{% generation %}}{Body()}{{% endgeneration %}}",
                7 => $"{{% set x = {Value()} %}}",
                _ => $"{{{{ {Value()} }}}}",
            });
        }

        return text.ToString();
    }
}
