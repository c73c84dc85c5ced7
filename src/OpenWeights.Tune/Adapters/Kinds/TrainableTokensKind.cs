using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Kinds;

/// <summary>Settings of an adapter that trains rows of single tokens and nothing else, with PEFT's names.</summary>
[AdapterType("trainable_tokens")]
internal sealed record TrainableTokensConfig : AdapterConfig
{
    /// <summary>token_indices: the tokens.</summary>
    [Setting("Tokens whose rows are trained, by number; target_modules names the modules, by default the embedding. A head that is tied to it follows.", Min = 0)]
    public IReadOnlyList<int> TokenIndices { get; init; } = [];

    internal override bool Takes(nn.Module module) => module is TokenEmbedding or LinearLayer;

    /// <summary>The same as settings of a LoRA without updates.</summary>
    internal LoraConfig AsLora => new()
    {
        Targets = TargetModules.Of([]),
        TrainsTokensAlone = true,
        TrainableTokens = [new TokenRows(Targets == TargetModules.AllLinear ? null : Targets, TokenIndices)],
    };
}

/// <summary>Trained rows of single tokens, without LoRA (<see cref="TrainableTokens"/>).</summary>
internal sealed class TrainableTokensKind : AdapterKind
{
    private readonly LoraKind _lora = new();

    internal override string PeftType => "TRAINABLE_TOKENS";

    internal override Type Settings => typeof(TrainableTokensConfig);

    internal override AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown)
    {
        var config = new TrainableTokensConfig();
        KindSettings.Read(config, json, path, ([], ["init_weights"]), out unknown);
        var read = (TrainableTokensConfig)PeftConfig.ReadCommon(config, json, path, needsTargets: false);
        return json["target_modules"] is null ? read with { Targets = TargetModules.AllLinear } : read;
    }

    internal override JsonObject Write(PeftAdapter adapter, string? baseModel)
    {
        var json = adapter.Source?.DeepClone().AsObject() ?? PeftLoraSettings.TokensAlone(((TrainableTokensConfig)adapter.Config).AsLora.TrainableTokens[0]);
        PeftConfig.WriteBase(json, baseModel);
        return json;
    }

    internal override IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, AdapterConfig config) =>
        LoraTargets.Problems(model, ((TrainableTokensConfig)config).AsLora).Select(static p => (p.Setting == "trainable_token_indices" ? "token_indices" : p.Setting, p.Message));

    internal override PeftAdapter Fresh(CausalLanguageModel model, AdapterConfig config, Generator generator, StartData? data) =>
        Named(_lora.Fresh(model, ((TrainableTokensConfig)config).AsLora, generator, data), config);

    internal override PeftAdapter Meta(CausalLanguageModel model, AdapterConfig config) => Named(_lora.Meta(model, ((TrainableTokensConfig)config).AsLora), config);

    internal override PeftAdapter Load(CausalLanguageModel model, AdapterConfig config, SafetensorsFile file, JsonObject source, Action<string>? warn) =>
        Named(_lora.Load(model, ((TrainableTokensConfig)config).AsLora, file, source, warn), config);

    // On a model the adapter is a LoRA without updates.
    private static PeftAdapter Named(PeftAdapter adapter, AdapterConfig config)
    {
        adapter.Config = config;
        return adapter;
    }

    internal override bool HasNoEffect(AdapterConfig config, ITensorSource file, CausalLanguageModel? model) => false;

    internal override bool NeedsBaseValues(AdapterConfig config) => true;
}
