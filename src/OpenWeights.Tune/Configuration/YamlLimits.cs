using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace OpenWeights.Tune.Configuration;

/// <summary>
/// Refuses YAML that would take the stack or the memory once it is a tree: values nested without end, and aliases that repeat each other. The
/// parser's events are gone through one by one, before anything is built of them.
/// </summary>
internal sealed class YamlLimits
{
    private const int Deepest = 64;
    private const long MostNodes = 100_000;

    private readonly Stack<(string? Anchor, long Start)> _open = [];
    private readonly Dictionary<string, long> _sizes = new(StringComparer.Ordinal);
    private long _nodes;

    /// <summary>Where and why a text is refused; null if it is not.</summary>
    /// <param name="text">The text.</param>
    /// <exception cref="YamlException">It is not YAML.</exception>
    internal static (long Line, long Column, string Message)? Problem(string text)
    {
        var (limits, parser) = (new YamlLimits(), new Parser(new StringReader(text)));
        while (parser.MoveNext())
        {
            if (parser.Current is { } found && limits.Problem(found) is { } message)
            {
                return (found.Start.Line, found.Start.Column, message);
            }
        }

        return null;
    }

    private string? Problem(ParsingEvent found)
    {
        switch (found)
        {
            case AnchorAlias alias:
                // An alias of a name that is not there yet is refused when the tree is built.
                _nodes += _sizes.GetValueOrDefault(alias.Value.Value, 1);
                return _open.Any(o => o.Anchor == alias.Value.Value) ? $"*{alias.Value.Value} stands within the value that it repeats."
                    : _nodes > MostNodes ? $"with its aliases written out, this file has more than {MostNodes} values."
                    : null;
            case NodeEvent node:
                var anchor = node.Anchor.IsEmpty ? null : node.Anchor.Value;
                _nodes++;
                if (node is Scalar)
                {
                    Close(anchor, _nodes - 1);
                    return _nodes > MostNodes ? $"this file has more than {MostNodes} values." : null;
                }

                _open.Push((anchor, _nodes - 1));
                return _open.Count > Deepest ? $"values are nested more than {Deepest} deep here." : null;
            case MappingEnd or SequenceEnd:
                var (name, start) = _open.Pop();
                Close(name, start);
                return null;
            default:
                return null;
        }
    }

    private void Close(string? anchor, long start)
    {
        if (anchor is not null)
        {
            _sizes[anchor] = _nodes - start;
        }
    }
}
