using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>
/// Lists a model's tensors to write as the files of its source have them: in their order, under their names, in their pieces. A stored tensor
/// none of whose parts has new values, such as one of a vision tower, is copied byte for byte.
/// </summary>
/// <param name="weights">The source.</param>
internal sealed class LayoutWriter(CheckpointWeights weights)
{
    /// <summary>Whether a tensor of the model has other values than in the source.</summary>
    internal required Func<string, bool> IsNew { get; init; }

    /// <summary>The values of a tensor of the model, in the current dispose scope or outside any.</summary>
    internal required Func<string, Tensor> Values { get; init; }

    /// <summary>The values of a part of a tensor of the model; null to take them from <see cref="Values"/>.</summary>
    internal Func<TensorPiece, Tensor>? PartValues { get; init; }

    /// <summary>The dtype to write a stored tensor in; null for its own.</summary>
    internal required Func<TensorEntry, ScalarType?> DType { get; init; }

    /// <summary>Whether a tensor of the model is left out.</summary>
    internal Func<string, bool> IsLeftOut { get; init; } = static _ => false;

    /// <summary>The shape of a tensor of the model where it is not the source's.</summary>
    internal Func<string, IReadOnlyList<long>?> NewShape { get; init; } = static _ => null;

    /// <summary>The tensors to write for a stored tensor that is written quantized, from what creates its values; null for one that is written in full.</summary>
    internal Func<TensorEntry, Func<Tensor>, IEnumerable<TensorToWrite>?>? Pack { get; init; }

    /// <summary>The tensors to write.</summary>
    internal IEnumerable<TensorToWrite> Tensors()
    {
        foreach (var entry in weights.Stored.Tensors)
        {
            var held = weights.HeldBy(entry.Name);
            if (held.Any(piece => IsLeftOut(piece.Module)))
            {
                continue;
            }

            var isNew = held.Any(piece => IsNew(piece.Module));
            if (Pack?.Invoke(entry, () => isNew ? InFull(entry, held) : TensorFiles.Read(weights.Stored, entry.Name, float32)) is { } packed)
            {
                foreach (var tensor in packed)
                {
                    yield return tensor;
                }

                continue;
            }

            yield return !isNew && (DType(entry) is not { } other || other == TensorFiles.ToTorch(entry)) ? TensorToWrite.FromSource(weights.Stored, entry.Name)
                : isNew ? New(entry, held)
                : TensorFiles.ToWrite(entry.Name, DType(entry)!.Value, entry.Shape, () => TensorFiles.Read(weights.Stored, entry.Name));
        }
    }

    private TensorToWrite New(TensorEntry entry, IReadOnlyList<TensorPiece> held)
    {
        var dtype = DType(entry) ?? TensorFiles.ToTorch(entry);
        return held is [var whole] && whole.Count == weights.GetTensor(whole.Module).ElementCount
            ? TensorFiles.ToWrite(entry.Name, dtype, NewShape(whole.Module) ?? entry.Shape, () => Values(whole.Module))
            : TensorFiles.ToWrite(entry.Name, dtype, entry.Shape, () => Joined(held).view([.. entry.Shape]));
    }

    private Tensor InFull(TensorEntry entry, IReadOnlyList<TensorPiece> held) =>
        held is [var whole] && whole.Count == weights.GetTensor(whole.Module).ElementCount ? Values(whole.Module) : Joined(held).view([.. entry.Shape]);

    private Tensor Joined(IReadOnlyList<TensorPiece> pieces)
    {
        var parts = pieces.Select(piece => PartValues?.Invoke(piece) ?? Values(piece.Module).detach().contiguous().view(-1).narrow(0, piece.ModuleFirst, piece.Count)).ToList();
        return parts is [var one] ? one : cat([.. parts]);
    }
}
