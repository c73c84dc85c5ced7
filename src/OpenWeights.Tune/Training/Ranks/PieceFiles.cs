using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Distributed;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training.Ranks;

/// <summary>Tensors of which ranks have pieces, as files have them whole.</summary>
internal static class PieceFiles
{
    /// <summary>A tensor to write, which is joined when its bytes are asked for, by all ranks at the same time.</summary>
    /// <param name="ranks">The ranks.</param>
    /// <param name="unit">The unit that has the parameter.</param>
    /// <param name="tensor">Its index in the unit.</param>
    /// <param name="written">Name, type and shape in the file.</param>
    /// <param name="elements">Elements of the parameter for which the tensor has one.</param>
    /// <param name="own">The values of this rank's piece.</param>
    internal static TensorToWrite Join(RankGroup ranks, UnitGradients unit, int tensor, (string Name, ScalarType DType, long[] Shape) written, long elements, Func<UnitPiece, Tensor> own) =>
        TensorFiles.ToWrite(written.Name, written.DType, written.Shape, () =>
        {
            // Parts of equal length, of which each rank fills what it has.
            long Count(UnitPiece piece) => (piece.Count + elements - 1) / elements;
            var pieces = Enumerable.Range(0, ranks.Size).Select(rank => unit.Layout.PiecesOf(rank).Where(p => p.Tensor == tensor).Cast<UnitPiece?>().FirstOrDefault()).ToList();
            var longest = pieces.Max(p => p is { } piece ? Count(piece) : 0);
            var device = unit.Trained[0].Trained.Parameter.device;
            var (part, all) = (zeros([longest], written.DType, device), empty([longest * ranks.Size], written.DType, device));
            if (pieces[ranks.Rank] is { } mine)
            {
                _ = part.narrow(0, 0, Count(mine)).copy_(own(mine).reshape(-1).to(device));
            }

            ranks.Collectives.BeginAllGather(part, all).Wait();
            return cat([.. pieces.Select((p, rank) => p is { } piece ? all.narrow(0, rank * longest, Count(piece)) : null).OfType<Tensor>()]).view(written.Shape);
        });

    /// <summary>Name of a piece of a parameter.</summary>
    /// <param name="name">The parameter's name.</param>
    /// <param name="start">First element of the piece.</param>
    /// <param name="count">Number of its elements.</param>
    internal static string NameOf(string name, long start, long count) => $"{name}[{start}..{start + count}]";
}
