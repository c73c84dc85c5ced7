using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>The optimizer of one rank's pieces, which reads its part of a whole state, and knows whole weights where all ranks ask for them.</summary>
/// <param name="optimizer">The optimizer of the pieces; this object takes ownership.</param>
/// <param name="own">The pieces, in the optimizer's order.</param>
/// <param name="parameters">The parameters, whole.</param>
/// <param name="pieces">The pieces of each parameter, of all ranks.</param>
/// <param name="ranks">The ranks.</param>
internal class PiecesOptimizer(
    IOptimizer optimizer, IReadOnlyList<(int Bucket, ParameterPiece Piece, TrainedParameter Part)> own, IReadOnlyList<TrainedParameter> parameters, ILookup<int, ParameterPiece> pieces, RankGroup ranks) : IOptimizer
{
    /// <inheritdoc/>
    public long StepCount
    {
        get => optimizer.StepCount;
        set => optimizer.StepCount = value;
    }

    /// <summary>The state of this rank's pieces.</summary>
    public IReadOnlyList<(string Name, Tensor State)> State => optimizer.State;

    /// <inheritdoc/>
    public Tensor ExactWeight(int index)
    {
        using var nothing = no_grad();
        var parameter = parameters[index].Parameter;
        return parameter.dtype == float32 ? parameter.detach() : Whole(index, optimizer.ExactWeight);
    }

    /// <inheritdoc/>
    public double NextRate(double scheduled) => optimizer.NextRate(scheduled);

    /// <inheritdoc/>
    public void Restore(Func<string, bool> has, Func<string, Tensor> read)
    {
        ArgumentNullException.ThrowIfNull(read);
        var known = own.ToDictionary(static o => o.Part.Name, static o => (object)o.Piece);
        optimizer.Restore(has, name =>
        {
            var piece = (ParameterPiece)StateOfRanks.Find(name, known)!;
            var whole = read(name).reshape(-1);
            return name.EndsWith(".absmax", StringComparison.Ordinal)
                ? whole.narrow(0, piece.Start / StateCodes.BlockSize, StateCodes.Blocks(piece.Count))
                : whole.narrow(0, piece.Start, piece.Count);
        });
    }

    /// <inheritdoc/>
    public void Step(double learningRate, double gradientScale = 1) => optimizer.Step(learningRate, gradientScale);

    /// <inheritdoc/>
    public void Dispose()
    {
        optimizer.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Float32 values of a whole parameter, in the current dispose scope.</summary>
    /// <param name="index">Index of the parameter.</param>
    /// <param name="values">The values of one of this rank's pieces, by its index.</param>
    private protected Tensor Whole(int index, Func<int, Tensor> values)
    {
        var counts = new long[ranks.Size];
        foreach (var piece in pieces[index])
        {
            counts[piece.Rank] += piece.Count;
        }

        var place = own.Index().Where(o => o.Item.Piece.Parameter == index).Select(static o => o.Index).DefaultIfEmpty(-1).Single();
        var parameter = parameters[index].Parameter;
        return new StateOfRanks(ranks, parameters).Join(place < 0 ? null : values(place), counts, float32, parameter.device).view(parameter.shape);
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
