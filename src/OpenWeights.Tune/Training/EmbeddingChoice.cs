using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Training;

/// <summary>How a run's model embeds texts: as the settings say, and otherwise as the files of the model or of the adapter to go on from do.</summary>
internal static class EmbeddingChoice
{
    /// <summary>The run's settings with those of the files; unchanged for other objectives.</summary>
    /// <param name="config">The run.</param>
    /// <param name="modelPath">Folder of the base model.</param>
    /// <exception cref="InvalidDataException">The files do something that is not supported.</exception>
    internal static RunConfig Complete(RunConfig config, string modelPath)
    {
        if (!IsOf(config))
        {
            return config;
        }

        var own = (config.Adapter?.Path is { } path && AdapterFolder.Find(path) is { } adapter ? EmbeddingFiles.Of(adapter) : null) ?? EmbeddingFiles.Of(modelPath);
        var objective = config.Objective;
        return config with
        {
            Objective = objective with
            {
                Pooling = objective.Pooling ?? (own?.Pooling == EmbeddingPooling.Mean ? "mean" : "last"),
                Attention = objective.Attention ?? (own?.IsBidirectional ?? EmbeddingFiles.IsBidirectional(ModelFolder.Open(modelPath).Config) ? "bidirectional" : "causal"),
                QueryPrompt = objective.QueryPrompt ?? own?.QueryPrompt ?? "",
                DocumentPrompt = objective.DocumentPrompt ?? own?.DocumentPrompt ?? "",
            },
        };
    }

    /// <summary>How the run's model embeds texts; null for other objectives.</summary>
    /// <param name="config">The run, completed.</param>
    internal static EmbeddingSettings? Of(RunConfig config) => !IsOf(config) ? null : new EmbeddingSettings
    {
        Pooling = config.Objective.Pooling == "mean" ? EmbeddingPooling.Mean : EmbeddingPooling.Last,
        IsBidirectional = config.Objective.Attention == "bidirectional",
        QueryPrompt = config.Objective.QueryPrompt ?? "",
        DocumentPrompt = config.Objective.DocumentPrompt ?? "",
        MaxLength = config.Data.MaxLength,
    };

    /// <summary>Why a model's attention cannot look both ways; null if it can.</summary>
    /// <param name="config">The run.</param>
    /// <param name="model">The model.</param>
    internal static string? Problem(RunConfig config, CausalLanguageModel model) =>
        IsOf(config) && config.Objective.Attention == "bidirectional" && !model.Stack.Layers.All(static l => l.Needs.Looks)
            ? $"{model.Config.ModelType} has layers that carry a state from token to token and cannot look ahead; set objective.attention: causal." : null;

    private static bool IsOf(RunConfig config) => config.Objective.Type == "embedding";
}
