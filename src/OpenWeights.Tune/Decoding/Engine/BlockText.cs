namespace OpenWeights.Tune.Decoding.Engine;

/// <summary>The blocks of one text: those that it shares with others, and then its own.</summary>
/// <param name="pool">The memory of blocks.</param>
/// <param name="tree">The shared blocks.</param>
/// <param name="root">The root of the text's adapter.</param>
internal sealed class BlockText(KeyValueBlocks pool, PrefixTree tree, PrefixNode root)
{
    private readonly List<nint> _blocks = [];
    private readonly List<bool> _own = [];

    // For each full block the one in the tree with these tokens: the text's own or, if another text was first, another.
    private readonly List<PrefixNode> _path = [];

    /// <summary>Addresses of the blocks, in order.</summary>
    internal IReadOnlyList<nint> Blocks => _blocks;

    /// <summary>Number of full blocks.</summary>
    internal int Whole => _path.Count;

    private PrefixNode Last => _path.Count == 0 ? root : _path[^1];

    /// <summary>Begins with the blocks of the text's beginning that are there.</summary>
    /// <param name="text">The tokens of the text.</param>
    /// <param name="take">Takes a block; null if there is none.</param>
    /// <returns>Number of tokens in them; never all, because the scores after the last one are wanted.</returns>
    internal int Begin(List<int> text, Func<nint?> take)
    {
        var (known, end) = (0, text.Count - 1);
        while (PrefixTree.Next(Last, text, known, end) is { } next)
        {
            tree.Hold(next);
            Add(next.Block, isOwn: false);
            _path.Add(next);
            known += KeyValueBlocks.Tokens;
        }

        // The beginning of a block that goes on differently is copied.
        var (nearest, common) = PrefixTree.Nearest(Last, text, known, end);
        if (nearest is null)
        {
            return known;
        }

        tree.Hold(nearest);
        var copy = take();
        tree.Release(nearest);
        if (copy is not { } block)
        {
            return known;
        }

        pool.Copy(nearest.Block, block, common);
        Add(block, isOwn: true);
        return known + common;
    }

    /// <summary>Makes room; false if there is no memory.</summary>
    /// <param name="tokens">Number of tokens of the text.</param>
    /// <param name="take">Takes a block; null if there is none.</param>
    internal bool TryReserve(int tokens, Func<nint?> take)
    {
        while (_blocks.Count * KeyValueBlocks.Tokens < tokens)
        {
            if (take() is not { } block)
            {
                return false;
            }

            Add(block, isOwn: true);
        }

        return true;
    }

    /// <summary>Shares the blocks that are full.</summary>
    /// <param name="text">The tokens of the text.</param>
    /// <param name="read">Number of tokens that are read.</param>
    internal void Note(List<int> text, int read)
    {
        while ((_path.Count + 1) * KeyValueBlocks.Tokens <= read)
        {
            var (number, from) = (_path.Count, _path.Count * KeyValueBlocks.Tokens);
            var node = PrefixTree.Next(Last, text, from, read);
            if (node is null)
            {
                node = tree.Add(Last, [.. text.GetRange(from, KeyValueBlocks.Tokens)], _blocks[number]);
                _own[number] = false;
            }

            tree.Hold(node);
            _path.Add(node);
        }
    }

    /// <summary>Gives all blocks back; those that are read stay in the tree.</summary>
    /// <param name="text">The tokens of the text.</param>
    /// <param name="read">Number of tokens that are read; 0 to keep no more than is shared already.</param>
    internal void End(List<int> text, int read)
    {
        var from = _path.Count * KeyValueBlocks.Tokens;
        if (read > from && PrefixTree.Nearest(Last, text, from, read).Tokens < read - from)
        {
            _ = tree.Add(Last, [.. text.GetRange(from, read - from)], _blocks[_path.Count]);
            _own[_path.Count] = false;
        }

        for (var i = 0; i < _blocks.Count; i++)
        {
            if (_own[i])
            {
                pool.Give(_blocks[i]);
            }
        }

        // Later blocks are freed before earlier ones.
        for (var i = _path.Count - 1; i >= 0; i--)
        {
            tree.Release(_path[i]);
        }

        _blocks.Clear();
        _own.Clear();
        _path.Clear();
    }

    private void Add(nint block, bool isOwn)
    {
        _blocks.Add(block);
        _own.Add(isOwn);
    }
}
