namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>
/// Blocks of texts by the tokens that they hold and all before them, so that texts with the same beginning share them. A block that no text uses is kept
/// until its memory is needed.
/// </summary>
/// <param name="pool">The memory of blocks.</param>
internal sealed class PrefixTree(KeyValueBlocks pool)
{
    private static readonly object s_base = new();

    private readonly Dictionary<object, PrefixNode> _roots = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<PrefixNode> _nodes = [];
    private long _clock;

    /// <summary>Number of blocks that are kept and no text uses.</summary>
    internal int Unused { get; private set; }

    /// <summary>Number of tokens of all blocks.</summary>
    internal long Tokens { get; private set; }

    /// <summary>The root of texts of an adapter.</summary>
    /// <param name="adapter">The adapter; null for the base model.</param>
    internal PrefixNode Root(object? adapter)
    {
        if (!_roots.TryGetValue(adapter ?? s_base, out var root))
        {
            root = _roots[adapter ?? s_base] = new PrefixNode(null, [], 0);
        }

        return root;
    }

    /// <summary>The block after others that holds the next tokens of a text, whole; null if there is none.</summary>
    /// <param name="node">The last of the other blocks.</param>
    /// <param name="text">The tokens of the text.</param>
    /// <param name="from">Number of its tokens in the other blocks.</param>
    /// <param name="end">Number of its tokens that may be taken.</param>
    internal static PrefixNode? Next(PrefixNode node, List<int> text, int from, int end) =>
        end - from < KeyValueBlocks.Tokens ? null : node.Children.Find(c => c.Tokens.Length == KeyValueBlocks.Tokens && Common(c, text, from, end) == KeyValueBlocks.Tokens);

    /// <summary>The block after others that holds most of the next tokens of a text, and how many; null if there is none.</summary>
    internal static (PrefixNode? Node, int Tokens) Nearest(PrefixNode node, List<int> text, int from, int end)
    {
        var (nearest, most) = ((PrefixNode?)null, 0);
        foreach (var child in node.Children)
        {
            var common = Common(child, text, from, end);
            if (common > most)
            {
                (nearest, most) = (child, common);
            }
        }

        return (nearest, most);
    }

    /// <summary>A text uses a block.</summary>
    internal void Hold(PrefixNode node)
    {
        Unused -= node.Uses == 0 ? 1 : 0;
        node.Uses++;
    }

    /// <summary>A text uses a block no longer.</summary>
    internal void Release(PrefixNode node)
    {
        node.Uses--;
        node.LastUse = ++_clock;
        Unused += node.Uses == 0 ? 1 : 0;
    }

    /// <summary>Adds a block, which no text uses yet and which belongs to the tree from now on.</summary>
    /// <param name="parent">The block before.</param>
    /// <param name="tokens">The tokens in it.</param>
    /// <param name="block">The block.</param>
    internal PrefixNode Add(PrefixNode parent, int[] tokens, nint block)
    {
        // It replaces those that end earlier.
        foreach (var shorter in parent.Children.FindAll(c => c is { Uses: 0, Children.Count: 0 } && c.Tokens.Length < tokens.Length && tokens.AsSpan().StartsWith(c.Tokens)))
        {
            Remove(shorter);
        }

        var node = new PrefixNode(parent, tokens, block) { LastUse = ++_clock };
        parent.Children.Add(node);
        _ = _nodes.Add(node);
        Tokens += tokens.Length;
        Unused++;
        return node;
    }

    /// <summary>Frees the block that was not used for the longest time; false if there is none.</summary>
    internal bool Evict()
    {
        PrefixNode? oldest = null;
        foreach (var node in _nodes)
        {
            if (node is { Uses: 0, Children.Count: 0 } && (oldest is null || node.LastUse < oldest.LastUse))
            {
                oldest = node;
            }
        }

        if (oldest is null)
        {
            return false;
        }

        Remove(oldest);
        return true;
    }

    /// <summary>Frees the blocks of all adapters but some; no text may use them.</summary>
    /// <param name="isLoaded">Whether an adapter is one of those.</param>
    internal void Forget(Func<object, bool> isLoaded)
    {
        foreach (var (adapter, root) in _roots.ToList())
        {
            if (!ReferenceEquals(adapter, s_base) && !isLoaded(adapter))
            {
                _ = _roots.Remove(adapter);
                root.Children.ToList().ForEach(RemoveAll);
            }
        }
    }

    /// <summary>Frees all blocks.</summary>
    internal void Clear()
    {
        foreach (var root in _roots.Values)
        {
            root.Children.ToList().ForEach(RemoveAll);
        }

        _roots.Clear();
    }

    private static int Common(PrefixNode node, List<int> text, int from, int end)
    {
        var (i, most) = (0, Math.Min(node.Tokens.Length, end - from));
        while (i < most && node.Tokens[i] == text[from + i])
        {
            i++;
        }

        return i;
    }

    private void RemoveAll(PrefixNode node)
    {
        node.Children.ToList().ForEach(RemoveAll);
        Remove(node);
    }

    private void Remove(PrefixNode node)
    {
        _ = node.Parent!.Children.Remove(node);
        _ = _nodes.Remove(node);
        Tokens -= node.Tokens.Length;
        Unused--;
        pool.Give(node.Block);
    }
}

/// <summary>A block in the tree.</summary>
/// <param name="parent">The block before; null for a root.</param>
/// <param name="tokens">The tokens in it.</param>
/// <param name="block">Its address.</param>
internal sealed class PrefixNode(PrefixNode? parent, int[] tokens, nint block)
{
    internal PrefixNode? Parent => parent;

    internal int[] Tokens => tokens;

    internal nint Block => block;

    internal List<PrefixNode> Children { get; } = [];

    /// <summary>Number of texts that use it.</summary>
    internal int Uses { get; set; }

    /// <summary>When a text last used it, in releases.</summary>
    internal long LastUse { get; set; }
}
