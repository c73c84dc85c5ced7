using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Tests.Export;

/// <summary>As much of Go's text/template as the templates for Ollama use, with the values that Ollama gives.</summary>
internal sealed partial class GoTemplate
{
    private readonly string[] _parts;
    private readonly JsonArray _messages;
    private readonly string _system;
    private readonly StringBuilder _output = new();
    private int _message;

    private GoTemplate(string template, JsonArray messages)
    {
        // Texts at even places, actions at odd ones.
        _parts = Action().Split(template);
        _messages = messages;
        _system = string.Join("\n\n", messages.Where(static m => m!["role"]!.ToString() == "system").Select(static m => m!["content"]!.ToString()));
    }

    internal static string Execute(string template, JsonArray messages)
    {
        var run = new GoTemplate(template, messages);
        _ = run.Block(0, active: true);
        return run._output.ToString();
    }

    // Runs up to the end or else of the block, and returns its place.
    private int Block(int at, bool active)
    {
        for (; at < _parts.Length; at++)
        {
            if (at % 2 == 0)
            {
                _ = active ? _output.Append(_parts[at]) : null;
                continue;
            }

            var action = _parts[at].Trim();
            if (action.StartsWith("range ", StringComparison.Ordinal))
            {
                var end = at;
                for (_message = 0; _message < _messages.Count; _message++)
                {
                    end = Block(at + 1, active);
                }

                at = end;
            }
            else if (action.StartsWith("if ", StringComparison.Ordinal))
            {
                at = If(at, active);
            }
            else if (action == "end" || action.StartsWith("else", StringComparison.Ordinal))
            {
                return at;
            }
            else if (active && !action.StartsWith("$last :=", StringComparison.Ordinal))
            {
                _ = _output.Append(Value(action));
            }
        }

        return at;
    }

    private int If(int at, bool active)
    {
        for (var (done, condition) = (false, _parts[at].Trim()[3..]); ;)
        {
            var holds = !done && IsTrue(Value(condition));
            at = Block(at + 1, active && holds);
            done |= holds;
            var action = _parts[at].Trim();
            if (action == "end")
            {
                return at;
            }

            condition = action.StartsWith("else if ", StringComparison.Ordinal) ? action[8..] : "true";
        }
    }

    private object Value(string expression)
    {
        var words = Word().Matches(expression).Select(static m => m.Value).ToList();
        var at = 0;
        return Call(words, ref at);
    }

    private object Call(List<string> words, ref int at)
    {
        var head = words[at++];
        var arguments = new List<object>();
        if (head is not ("eq" or "ne" or "and" or "not" or "len" or "slice"))
        {
            return Atom(head);
        }

        while (at < words.Count && words[at] != ")")
        {
            if (words[at] == "(")
            {
                at++;
                arguments.Add(Call(words, ref at));
                at++;
            }
            else
            {
                arguments.Add(Atom(words[at++]));
            }
        }

        return head switch
        {
            "eq" => arguments[0].Equals(arguments[1]),
            "ne" => !arguments[0].Equals(arguments[1]),
            "and" => arguments.TrueForAll(IsTrue),
            "not" => !IsTrue(arguments[0]),
            "len" => arguments[0],
            _ => (int)arguments[0] - (int)arguments[1],
        };
    }

    // A list is its length here.
    private object Atom(string word) => word switch
    {
        "$.Messages" => _messages.Count,
        "$.System" => _system,
        "$i" => _message,
        "$last" => _message == _messages.Count - 1,
        ".Role" => _messages[_message]!["role"]!.ToString(),
        ".Content" => _messages[_message]!["content"]!.ToString(),
        "true" => true,
        ['"', .., '"'] => word[1..^1],
        _ => int.Parse(word, System.Globalization.CultureInfo.InvariantCulture),
    };

    private static bool IsTrue(object value) => value is true or string { Length: > 0 } or > 0;

    [GeneratedRegex(@"\{\{(.*?)\}\}")]
    private static partial Regex Action();

    [GeneratedRegex("\"[^\"]*\"|[()]|[^\\s()]+")]
    private static partial Regex Word();
}
