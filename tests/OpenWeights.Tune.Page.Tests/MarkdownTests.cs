using Microsoft.Playwright;
using NUnit.Framework;
using static Microsoft.Playwright.Assertions;

namespace OpenWeights.Tune.Page.Tests;

/// <summary>Answers are shown as the Markdown that they are, and nothing of them becomes HTML, script or a request.</summary>
[TestFixture]
internal sealed class MarkdownTests : PageTest
{
    // The HTML that an answer becomes, without the buttons and attributes that are the page's own.
    private const string Written = """
        node => {
          const copy = node.cloneNode(true);
          copy.querySelectorAll(".code-head").forEach(n => n.remove());
          copy.querySelectorAll("*").forEach(n => [...n.attributes].filter(a => !["href", "start", "scope"].includes(a.name)).forEach(a => n.removeAttribute(a.name)));
          return copy.innerHTML;
        }
        """;

    [TestCase("# One\n\n### Three ###", "<h3>One</h3><h5>Three</h5>")]
    [TestCase("Under\n=====\ntext", "<h3>Under</h3><p>text</p>")]
    [TestCase("a **bold** and *slanted* and ***both*** and ~~gone~~", "<p>a <strong>bold</strong> and <em>slanted</em> and <strong><em>both</em></strong> and <del>gone</del></p>")]
    [TestCase("__bold__ but snake_case_name and 2 * 3 * 4", "<p><strong>bold</strong> but snake_case_name and 2 * 3 * 4</p>")]
    [TestCase("**bold with *slanted* in it**", "<p><strong>bold with <em>slanted</em> in it</strong></p>")]
    [TestCase("`a*b*` and ``x ` y``", "<p><code>a*b*</code> and <code>x ` y</code></p>")]
    [TestCase(@"\*not slanted\* and **open", "<p>*not slanted* and **open</p>")]
    [TestCase("- a\n- b\n  - c\n  - d\n- e", "<ul><li>a</li><li>b<ul><li>c</li><li>d</li></ul></li><li>e</li></ul>")]
    [TestCase("3. c\n4. d", "<ol start=\"3\"><li>c</li><li>d</li></ol>")]
    [TestCase("1. a\n\n2. b\n\nAfter", "<ol><li><p>a</p></li><li><p>b</p></li></ol><p>After</p>")]
    [TestCase("1. Do this:\n   ```sh\n   ls\n   ```\n2. Then that", "<ol><li>Do this:<div><pre><code>ls</code></pre></div></li><li>Then that</li></ol>")]
    [TestCase("> quoted\n> text\n\nnot", "<blockquote><p>quoted<br>text</p></blockquote><p>not</p>")]
    [TestCase("a\n\n---\n\nb", "<p>a</p><hr><p>b</p>")]
    [TestCase("```python\nif a < b:\n    print(\"*\")\n```\nafter", "<div><pre><code>if a &lt; b:\n    print(\"*\")</code></pre></div><p>after</p>")]
    [TestCase("```\nnever closed", "<div><pre><code>never closed</code></pre></div>")]
    [TestCase("| a | b |\n| :- | -: |\n| 1 | `x \\| y` |\n| 2 |", "<div><table><thead><tr><th scope=\"col\">a</th><th scope=\"col\">b</th></tr></thead><tbody><tr><td>1</td><td><code>x | y</code></td></tr><tr><td>2</td><td></td></tr></tbody></table></div>")]
    [TestCase("[*a* link](https://example.org/a_(b)?c=1 \"title\").", "<p><a href=\"https://example.org/a_(b)?c=1\"><em>a</em> link</a>.</p>")]
    [TestCase("see https://example.org/x, or <mailto:a@example.org>", "<p>see <a href=\"https://example.org/x\">https://example.org/x</a>, or <a href=\"mailto:a@example.org\">mailto:a@example.org</a></p>")]
    [TestCase("two\nlines", "<p>two<br>lines</p>")]
    public async Task Markdown_becomes(string markdown, string html) => Assert.That(await (await Answered(markdown)).EvaluateAsync<string>(Written), Is.EqualTo(html));

    [TestCase("<img src=x onerror=\"window.hurt=1\">")]
    [TestCase("<script>window.hurt=1</script>")]
    [TestCase("<svg onload=window.hurt=1><a href='javascript:window.hurt=1'>x</a></svg>")]
    [TestCase("<iframe srcdoc='<script>parent.hurt=1</script>'></iframe>")]
    [TestCase("# <b onmouseover=window.hurt=1>x</b>")]
    [TestCase("- <style>body{display:none}</style>")]
    [TestCase("| <img src=x onerror=window.hurt=1> |\n| - |\n| <img src=x onerror=window.hurt=1> |")]
    [TestCase("**<img src=x onerror=window.hurt=1>**")]
    [TestCase("`<img src=x onerror=window.hurt=1>`")]
    [TestCase("```<img>\n</code></pre><img src=x onerror=window.hurt=1>\n```")]
    public async Task Html_in_an_answer_is_text(string markdown)
    {
        var text = await Answered(markdown);

        await Expect(text.Locator("img, script, svg, iframe, style, b, [onmouseover]")).ToHaveCountAsync(0);
        Assert.That(await Page.EvaluateAsync<bool>("'hurt' in window"), Is.False);
        await Expect(text).ToContainTextAsync("<");
    }

    [TestCase("[x](javascript:window.hurt=1)")]
    [TestCase("[x](JaVaScRiPt:window.hurt=1)")]
    [TestCase("[x](&#106;avascript:window.hurt=1)")]
    [TestCase("[x](data:text/html,<script>1</script>)")]
    [TestCase("[x](vbscript:x)")]
    [TestCase("[x](file:///etc/passwd)")]
    [TestCase("[x](/v1/unload_lora_adapter)")]
    [TestCase("[x](//example.org/)")]
    [TestCase("<javascript:window.hurt=1>")]
    [TestCase("[x](https://)")]
    public async Task An_address_that_is_none_of_the_web_is_no_link(string markdown) => await Expect((await Answered(markdown)).Locator("a")).ToHaveCountAsync(0);

    [Test]
    public async Task An_image_is_not_loaded_but_linked()
    {
        var link = (await Answered("![a cat](https://example.org/cat.png)")).GetByRole(AriaRole.Link, new() { Name = "a cat" });

        await Expect(link).ToHaveAttributeAsync("href", "https://example.org/cat.png");
        await Expect(link).ToHaveAttributeAsync("rel", "noopener noreferrer");
    }

    [Test]
    public async Task Text_without_end_of_any_mark_is_shown_whole([Values("**a ", "`", "[", "> ", "* ", "- - ", "<", "_a_", "|-", "](x) ", "***", "~~a")] string piece)
    {
        var markdown = string.Concat(Enumerable.Repeat(piece, 3000)) + "end";

        await Expect(await Answered(markdown)).ToContainTextAsync("end");
    }

    [Test]
    public async Task The_message_of_a_person_is_shown_as_it_was_written()
    {
        await Ask("<img src=x onerror=\"window.hurt=1\"> **not bold**");

        await Expect(Page.Locator(".user")).ToHaveTextAsync("<img src=x onerror=\"window.hurt=1\"> **not bold**");
        Assert.That(await Page.EvaluateAsync<bool>("'hurt' in window"), Is.False);
    }
}
