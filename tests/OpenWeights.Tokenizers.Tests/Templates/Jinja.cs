using System.Text.Json.Nodes;

using NUnit.Framework;

using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tokenizers.Tests.Templates;

/// <summary>Renders snippets of the language with a few variables.</summary>
internal static class Jinja
{
    private const string Variables = """
        {
          "s": "Hello Wörld 😀", "e": "", "n": 5, "f": 2.5, "neg": -7, "b": true, "none_value": null,
          "l": [3, 1, 2], "ls": ["b", "A", "c"], "d": {"b": 1, "a": 2, "C": "x"},
          "nested": [{"name": "x", "v": 1, "t": {"k": [1, 2]}}, {"name": "Y", "v": 3}, {"name": "y", "v": 2}],
          "big": 123456789012345678901234567890, "html": "<a href='x'>\"&</a>", "ws": "  \t pad \n ",
          "mixed": [1, "a", null, true, 2.0, [1], {"k": "v"}], "quote": "it's \"x\"", "float22": 1e22,
          "ctrl": "a\u0000b\u001f\u007f\u2028é\\", "long": "the quick brown fox jumps over the lazy dog"
        }
        """;

    public static string Render(string template) => ChatTemplate.Parse(template, "test").Render(new ChatTemplateInput
    {
        Messages = [],
        Variables = JsonNode.Parse(Variables)!.AsObject(),
        Now = TemplateFixtures.Now,
    });

    /// <summary>The error of a template that must fail.</summary>
    public static ChatTemplateException Fail(string template) =>
        Assert.Throws<ChatTemplateException>(() => Render(template), template)!;
}
