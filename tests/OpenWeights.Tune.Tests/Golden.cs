using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Testing;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests;

/// <summary>One case of the reference's answers: its folder, its numbers and its tensors.</summary>
internal sealed class Golden : IDisposable
{
    private readonly Lazy<SafetensorsFile> _tensors;

    internal Golden(string name, string set = "reference")
    {
        Folder = SharedFiles.Require("goldens", set, name);
        Json = JsonNode.Parse(File.ReadAllText(Path.Combine(Folder, "golden.json")))!.AsObject();
        _tensors = new Lazy<SafetensorsFile>(() => SafetensorsFile.Open(Path.Combine(Folder, "golden.safetensors")));
    }

    /// <summary>Those of the names that are here.</summary>
    internal static IEnumerable<string> Present(params string[] names) => SharedFiles.Present(names, "goldens", "reference");

    internal string Name => Path.GetFileName(Folder);

    internal string Folder { get; }

    /// <summary>The runs that have inputs of their own.</summary>
    internal IEnumerable<(string Name, JsonNode Run)> Runs =>
        Json["runs"]!.AsObject().Where(static r => r.Value!["input_ids"] is not null).Select(static r => (r.Key, r.Value!));

    internal JsonObject Json { get; }

    internal SafetensorsFile Tensors => _tensors.Value;

    public void Dispose()
    {
        if (_tensors.IsValueCreated)
        {
            _tensors.Value.Dispose();
        }
    }

    internal Tensor Tensor(string name) => TensorFiles.Read(Tensors, name);

    internal static Tensor Ids(JsonNode rows)
    {
        var lists = rows.AsArray().Select(static r => r!.AsArray().Select(static v => v!.GetValue<long>()).ToArray()).ToArray();
        return tensor([.. lists.SelectMany(static l => l)], [lists.Length, lists[0].Length]).to(TestDevice.Current);
    }

    /// <summary>The batch of a run of the reference: left padding has documents.</summary>
    internal static ModelInput Input(JsonNode run)
    {
        var ids = Ids(run["input_ids"]!);
        var mask = Ids(run["attention_mask"]!);
        if (!mask.select(1, 0).eq(0).any().ToBoolean())
        {
            return ModelInput.Rows(ids);
        }

        var positions = run["position_ids"] is { } given ? Ids(given) : mask.cumsum(1).sub(1).clamp_min(0);
        return new ModelInput { InputIds = ids, PositionIds = positions, LongestPosition = positions.max().ToInt64(), Documents = mask };
    }

    /// <summary>The mean cross entropy of the next tokens, as transformers computes it.</summary>
    internal static Tensor Loss(Tensor logits, Tensor labels)
    {
        var tokens = labels.size(1);
        return nn.functional.cross_entropy(logits.narrow(1, 0, tokens - 1).reshape(-1, logits.size(2)), labels.narrow(1, 1, tokens - 1).reshape(-1));
    }

    /// <summary>The largest absolute difference, where a mask of [batch, tokens] is not zero.</summary>
    internal static double LargestDifference(Tensor actual, Tensor expected, Tensor? mask = null)
    {
        using var scope = NewDisposeScope();
        var difference = actual.cpu().to(float64).sub(expected.cpu().to(float64)).abs();
        if (mask is not null)
        {
            difference = difference.mul(mask.cpu().unsqueeze(-1).to(float64));
        }

        return difference.max().ToDouble();
    }
}
