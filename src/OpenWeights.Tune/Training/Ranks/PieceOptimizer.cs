using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Optimizers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>An optimizer of pieces of parameters, whose state is saved and restored as that of whole parameters, whatever the ranks.</summary>
/// <param name="inner">The optimizer of this rank's pieces; this object takes ownership.</param>
/// <param name="units">The units, with the pieces in the order of the optimizer.</param>
/// <param name="ranks">The ranks.</param>
internal sealed class PieceOptimizer(IOptimizer inner, IReadOnlyList<UnitGradients> units, RankGroup ranks) : IOptimizer
{
    private readonly Dictionary<string, TrainedPiece> _pieces = units.SelectMany(static u => u.Pieces).ToDictionary(static p => p.Trained.Name);

    /// <inheritdoc/>
    public long StepCount
    {
        get => inner.StepCount;
        set => inner.StepCount = value;
    }

    /// <inheritdoc/>
    public IReadOnlyList<(string Name, Tensor State)> State => inner.State;

    /// <inheritdoc/>
    public Tensor ExactWeight(int index) => throw new NotSupportedException("an optimizer of pieces has no whole weights");

    /// <inheritdoc/>
    public double NextRate(double scheduled) => inner.NextRate(scheduled);

    /// <inheritdoc/>
    public void Step(double learningRate, double gradientScale = 1) => inner.Step(learningRate, gradientScale);

    /// <inheritdoc/>
    public void Restore(Func<string, bool> has, Func<string, Tensor> read) => inner.Restore(
        name => has(Whole(name).Name),
        name =>
        {
            using var scope = NewDisposeScope();
            var (whole, piece) = Whole(name);
            var all = read(whole).reshape(-1);
            var (start, count) = Range(piece, isScale: name.EndsWith(".absmax", StringComparison.Ordinal));
            return all.narrow(0, start, count).clone().MoveToOuterDisposeScope();
        });

    /// <summary>The state as one process has it; the tensors' bytes are asked for by all ranks in this order.</summary>
    /// <param name="shapes">Shapes of the parameters, by name.</param>
    internal IReadOnlyList<TensorToWrite> Saved(IReadOnlyDictionary<string, long[]> shapes)
    {
        // Which states a parameter has, their types and kinds, is known where it has a piece: all ranks are told.
        var own = inner.State.ToDictionary(static s => s.Name, static s => s.State);
        var kinds = Kinds(own);
        return [.. units.SelectMany(unit => unit.Trained.Select((t, i) => (Unit: unit, Tensor: i, t.Index, t.Trained)))
            .OrderBy(static t => t.Index)
            .SelectMany(t => (kinds.GetValueOrDefault(t.Trained.Name) ?? []).Select(kind => ToWrite(t.Unit, t.Tensor, t.Trained.Name, kind, shapes[t.Trained.Name], own)))];
    }

    /// <inheritdoc/>
    public void Dispose() => inner.Dispose();

    private TensorToWrite ToWrite(UnitGradients unit, int tensor, string name, StateKind kind, long[] shape, Dictionary<string, Tensor> own)
    {
        var whole = shape.Aggregate(1L, static (product, size) => product * size);
        long[] saved = kind.Elements == 1 && !kind.IsFlat ? shape : [(whole + kind.Elements - 1) / kind.Elements];
        return PieceFiles.Join(ranks, unit, tensor, ($"{name}.{kind.Name}", kind.DType, saved), kind.Elements, piece => own[$"{PieceFiles.NameOf(name, piece.Start, piece.Count)}.{kind.Name}"]);
    }

    // The kinds of state of each parameter, by its name.
    private Dictionary<string, List<StateKind>> Kinds(Dictionary<string, Tensor> own)
    {
        var lines = own.Select(s =>
        {
            var (whole, piece) = Whole(s.Key);
            var elements = s.Key.EndsWith(".absmax", StringComparison.Ordinal) ? StateCodes.BlockSize : 1;
            return $"{piece.Name}\t{whole[(piece.Name.Length + 1)..]}\t{(int)s.Value.dtype}\t{elements}\t{(own.ContainsKey($"{s.Key}.absmax") ? 1 : 0)}";
        });
        var device = units[0].Trained[0].Trained.Parameter.device;
        var known = ranks.Gather(System.Text.Encoding.UTF8.GetBytes(string.Join('\n', lines)), device).SelectMany(static b => System.Text.Encoding.UTF8.GetString(b).Split('\n', StringSplitOptions.RemoveEmptyEntries)).Distinct();
        return known.Select(static l => l.Split('\t')).GroupBy(static l => l[0], static l => new StateKind(
                l[1], (ScalarType)int.Parse(l[2], System.Globalization.CultureInfo.InvariantCulture), long.Parse(l[3], System.Globalization.CultureInfo.InvariantCulture), l[4] == "1"))
            .ToDictionary(static g => g.Key, static g => g.ToList());
    }

    // Codes have a scale for each block, at whole blocks of which pieces begin.
    private static (long Start, long Count) Range(TrainedPiece piece, bool isScale) =>
        isScale ? (piece.Start / StateCodes.BlockSize, (piece.Count + StateCodes.BlockSize - 1) / StateCodes.BlockSize) : (piece.Start, piece.Count);

    // name[start..end].state to the piece and name.state.
    private (string Name, TrainedPiece Piece) Whole(string name)
    {
        var end = name.IndexOf("].", StringComparison.Ordinal) + 1;
        var piece = _pieces[name[..end]];
        return (piece.Name + name[end..], piece);
    }

    private sealed record StateKind(string Name, ScalarType DType, long Elements, bool IsFlat);
}
