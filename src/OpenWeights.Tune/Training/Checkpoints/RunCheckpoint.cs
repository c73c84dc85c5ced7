using System.Text.Json;
using OpenWeights.Formats.Files;
using OpenWeights.Formats.Json;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Optimizers;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training.Ranks;

namespace OpenWeights.Tune.Training.Checkpoints;

/// <summary>Contents of a checkpoint: the trained weights, the optimizer's tensors, the moving average of the weights and a reference that follows the policy if there are such, and state.json.</summary>
internal static class RunCheckpoint
{
    private const string OptimizerName = "optimizer.safetensors";
    private const string ReferenceName = "reference.safetensors";
    private const string AverageName = "average.safetensors";
    private const string StateName = "state.json";
    private const string WeightsName = "weights";

    /// <summary>Writes a checkpoint's files.</summary>
    /// <param name="folder">Folder of the checkpoint.</param>
    /// <param name="trained">The trained model.</param>
    /// <param name="shards">What becomes of weights and optimizer state.</param>
    /// <param name="average">Moving average of the weights; null for none.</param>
    /// <param name="state">State of the run.</param>
    /// <param name="reference">A reference that follows the policy; null for none.</param>
    /// <exception cref="IOException">A file cannot be written.</exception>
    internal static void Write(string folder, ITrainedModel trained, IShardStrategy shards, WeightAverage? average, TrainerState state, IFollowingReference? reference = null)
    {
        shards.Lead(() => trained.Save(Path.Combine(folder, WeightsName)));
        SafetensorsWriter.Write(Path.Combine(folder, OptimizerName), [.. shards.State()]);
        if (average is not null)
        {
            SafetensorsWriter.Write(Path.Combine(folder, AverageName), [.. shards.AverageToWrite(average)]);
        }

        if (reference is not null)
        {
            SafetensorsWriter.Write(Path.Combine(folder, ReferenceName), [.. reference.State.Select(static s => TensorFiles.ToWrite(s.Name, s.State))]);
        }

        AtomicFile.WriteText(Path.Combine(folder, StateName), JsonSerializer.Serialize(state));
    }

    /// <summary>Restores a checkpoint's weights and optimizer tensors.</summary>
    /// <param name="folder">Folder of the checkpoint.</param>
    /// <param name="trained">The trained model.</param>
    /// <param name="shards">What becomes of weights and optimizer state.</param>
    /// <param name="average">Moving average of the weights; null for none.</param>
    /// <param name="reference">A reference that follows the policy; null for none.</param>
    /// <returns>The state of the run.</returns>
    /// <exception cref="InvalidDataException">A file is damaged.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    internal static TrainerState Restore(string folder, ITrainedModel trained, IShardStrategy shards, WeightAverage? average, IFollowingReference? reference = null)
    {
        trained.Restore(Path.Combine(folder, WeightsName));
        using var tensors = SafetensorsFile.Open(Path.Combine(folder, OptimizerName));
        shards.Optimizer.Restore(name => tensors.TryGetTensor(name, out _), name => TensorFiles.Read(tensors, name));
        if (average is not null)
        {
            using var averages = SafetensorsFile.Open(Path.Combine(folder, AverageName));
            shards.RestoreAverage(average, name => TensorFiles.Read(averages, name));
        }

        if (reference is not null)
        {
            using var references = SafetensorsFile.Open(Path.Combine(folder, ReferenceName));
            reference.Restore(name => TensorFiles.Read(references, name));
        }

        return ReadState(folder);
    }

    /// <summary>Reads the state of the run alone.</summary>
    /// <param name="folder">Folder of the checkpoint.</param>
    /// <exception cref="InvalidDataException">state.json is damaged.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    internal static TrainerState ReadState(string folder)
    {
        var path = Path.Combine(folder, StateName);
        try
        {
            return JsonSerializer.Deserialize<TrainerState>(JsonFile.ReadObject(path))!;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"{path} is not the state of a run: {e.Message} Delete this checkpoint to go on from an earlier one.", e);
        }
    }
}
