using static TorchSharp.torch;

namespace OpenWeights.Tune.Models.Weights;

/// <summary>Rows of an embedding or a head for new tokens, which start as the mean of those of other tokens.</summary>
/// <param name="Known">Number of tokens before them.</param>
/// <param name="Vocabulary">Number of tokens with them.</param>
/// <param name="Starts">For each new token the tokens whose mean it starts as; none for the mean of all known ones.</param>
internal sealed record NewRows(int Known, int Vocabulary, IReadOnlyDictionary<int, IReadOnlyList<int>> Starts)
{
    /// <summary>A weight with the new rows, in no dispose scope: as many rows as it had, or more where it has none for a new token.</summary>
    /// <param name="weight">The weight, [rows, columns].</param>
    internal Tensor On(Tensor weight)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var mean = Mean(weight, []);
        var more = Vocabulary - weight.size(0);
        var all = more > 0 ? cat([weight.detach(), mean.to(weight.dtype).unsqueeze(0).expand(more, weight.size(1))]) : weight.detach().clone();
        foreach (var (token, words) in Starts)
        {
            _ = all.narrow(0, token, 1).copy_((words.Count == 0 ? mean : Mean(weight, words)).unsqueeze(0));
        }

        return scope.Detach(all);
    }

    /// <summary>Rows of tokens, [tokens, columns], float32 and in no dispose scope: those of new tokens as they start, and the others as they are.</summary>
    /// <param name="weight">The weight, [rows, columns].</param>
    /// <param name="tokens">The tokens.</param>
    internal Tensor Of(Tensor weight, IReadOnlyList<int> tokens)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var rows = tokens.Select(t => Starts.TryGetValue(t, out var words) ? Mean(weight, words) : weight.detach().narrow(0, t, 1).squeeze(0).to(float32)).ToArray();
        return scope.Detach(stack(rows));
    }

    private Tensor Mean(Tensor weight, IReadOnlyList<int> words)
    {
        var known = weight.detach().narrow(0, 0, Math.Min(Known, weight.size(0)));
        var some = words.Count == 0 ? known : known.index_select(0, tensor([.. words.Select(static w => (long)w)], [words.Count]).to(weight.device));
        return some.to(float32).mean([0L]);
    }
}
