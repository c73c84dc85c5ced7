using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>The optimizer of one rank's pieces, which reads its part of a whole state.</summary>
/// <param name="optimizer">The optimizer of the pieces; this object takes ownership.</param>
/// <param name="own">The pieces, in the optimizer's order.</param>
/// <param name="parameters">The parameters, whole.</param>
/// <param name="pieces">The pieces of each parameter, of all ranks.</param>
/// <param name="ranks">The ranks.</param>
internal class PiecesOptimizer(
    IOptimizer optimizer, IReadOnlyList<(int Bucket, ParameterPiece Piece, TrainedParameter Part)> own, IReadOnlyList<TrainedParameter> parameters, ILookup<int, ParameterPiece> pieces, RankGroup ranks)
    : RankOptimizer(optimizer, parameters, ranks)
{
    /// <inheritdoc/>
    public override void Restore(Func<string, bool> has, Func<string, Tensor> read)
    {
        ArgumentNullException.ThrowIfNull(read);
        var known = own.ToDictionary(static o => o.Part.Name, static o => (object)o.Piece);
        base.Restore(has, name =>
        {
            var piece = (ParameterPiece)StateOfRanks.Find(name, known)!;
            var whole = read(name).reshape(-1);
            return name.EndsWith(".absmax", StringComparison.Ordinal)
                ? whole.narrow(0, piece.Start / StateCodes.BlockSize, StateCodes.Blocks(piece.Count))
                : whole.narrow(0, piece.Start, piece.Count);
        });
    }

    private protected override int Divide(int index, long[] counts)
    {
        foreach (var piece in pieces[index])
        {
            counts[piece.Rank] += piece.Count;
        }

        return own.Index().Where(o => o.Item.Piece.Parameter == index).Select(static o => o.Index).DefaultIfEmpty(-1).Single();
    }
}

/// <summary>The same of an optimizer that averages weights.</summary>
/// <param name="optimizer">The optimizer of the pieces; this object takes ownership.</param>
/// <param name="own">The pieces, in the optimizer's order.</param>
/// <param name="parameters">The parameters, whole.</param>
/// <param name="pieces">The pieces of each parameter, of all ranks.</param>
/// <param name="ranks">The ranks.</param>
internal sealed class AveragedPiecesOptimizer(
    IOptimizer optimizer, IReadOnlyList<(int Bucket, ParameterPiece Piece, TrainedParameter Part)> own, IReadOnlyList<TrainedParameter> parameters, ILookup<int, ParameterPiece> pieces, RankGroup ranks)
    : PiecesOptimizer(optimizer, own, parameters, pieces, ranks), IAveragedWeights
{
    private readonly IAveragedWeights _averages = (IAveragedWeights)optimizer;

    /// <inheritdoc/>
    public Tensor Averaged(int index) => Whole(index, _averages.Averaged);
}
