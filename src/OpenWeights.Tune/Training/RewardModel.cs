using System.Text.Json.Nodes;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Objectives.Labels;
using OpenWeights.Tune.Rewards;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>A reward model that judges sampled answers. It reads them with its own tokenizer: chats with its chat template, other prompts as text.</summary>
internal sealed class RewardModel : IRewardModel
{
    private readonly LoadedModel _loaded;
    private readonly PeftAdapter? _adapter;
    private readonly RowTokenizer _tokenizer;
    private readonly LabelScorer _scorer;

    private RewardModel(LoadedModel loaded, PeftAdapter? adapter, RowTokenizer tokenizer) =>
        (_loaded, _adapter, _tokenizer, _scorer) = (loaded, adapter, tokenizer, new LabelScorer(loaded.Model, tokenizer));

    /// <summary>Loads the model of a reward.</summary>
    /// <param name="section">The reward.</param>
    /// <param name="dtype">Data type of the computation; null for the checkpoint's.</param>
    /// <param name="device">The device.</param>
    /// <exception cref="InvalidDataException">It is no reward model, or its files are invalid.</exception>
    /// <exception cref="IOException">It cannot be read or downloaded.</exception>
    internal static RewardModel Load(RewardSection section, ScalarType? dtype, Device device)
    {
        var (model, adapterPath) = ModelPath.WithAdapter(section.Model!);
        var folder = ModelPath.Resolve(model);
        var loaded = ModelLoader.Load(folder, dtype, device, labels: adapterPath is null ? null : LabelFile.Of(adapterPath));
        try
        {
            if (loaded.Model.Config.Labels is not { Names.Count: 1 })
            {
                throw new InvalidDataException($"{section.Model}: the reward {section.MetricName} needs a reward model, with one output; this is {(loaded.Model.Config.Labels is null ? "a language model" : "a classifier")}. objective.type: reward trains one from pairs.");
            }

            var adapter = adapterPath is null ? null : PeftFolder.Load(loaded.Model, adapterPath);
            return new RewardModel(loaded, adapter, new RowTokenizer(folder, "assistant", adapterPath is null ? null : PeftFolder.ChatTemplate(adapterPath)));
        }
        catch
        {
            loaded.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public IReadOnlyList<double> Rewards(IReadOnlyList<JudgedAnswer> answers) => _scorer.Rewards([.. answers.Select(Encode)]);

    /// <inheritdoc/>
    public void Dispose()
    {
        _adapter?.Dispose();
        _loaded.Dispose();
    }

    private int[] Encode(JudgedAnswer answer)
    {
        if (Messages(answer) is not { } messages)
        {
            return _scorer.Encode(answer.Prompt + answer.Completion);
        }

        messages.Add((JsonNode)new JsonObject { ["role"] = "assistant", ["content"] = answer.Completion });
        return _scorer.Encode(messages);
    }

    // The messages before the answer; null for a prompt that is a text.
    private JsonArray? Messages(JudgedAnswer answer)
    {
        if (answer.Row["prompt"] is JsonArray prompt)
        {
            return prompt.DeepClone().AsArray();
        }

        if ((answer.Row["messages"] ?? answer.Row["conversations"]) is JsonArray chat)
        {
            var before = chat.DeepClone().AsArray();
            while (before.Count > 0 && Role(before[^1]) is "assistant" or "gpt")
            {
                before.RemoveAt(before.Count - 1);
            }

            return before;
        }

        return answer.Row["prompt"] is null && _tokenizer.Chat is not null ? [new JsonObject { ["role"] = "user", ["content"] = answer.Prompt }] : null;
    }

    private static string? Role(JsonNode? message) => (message?["role"] ?? message?["from"])?.ToString();
}
