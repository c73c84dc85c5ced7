using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>LoRA with its forms (Hu et al., 2021).</summary>
internal sealed class LoraKind : AdapterKind
{
    internal override string PeftType => "LORA";

    internal override Type Settings => typeof(LoraConfig);

    internal override AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown) => PeftConfig.Read(json, path, out unknown);

    internal override JsonObject Write(PeftAdapter adapter, string? baseModel)
    {
        var config = (LoraConfig)adapter.Config;
        return PeftConfig.Write(
            config, [.. adapter.Parts.Where(p => (p is LoraLayer && !config.AdaptsParameter($"{p.Module}.weight")) || p is EmbeddingLora).Select(static p => p.Module)],
            baseModel, adapter.Source, adapter.Base.Config.IsPart ? adapter.Base.Config.Names : null);
    }

    internal override IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, AdapterConfig config) => LoraTargets.Problems(model, (LoraConfig)config);

    internal override AdapterConfig Resolve(CausalLanguageModel model, AdapterConfig config) => ExpertTargeting.Convert(model, (LoraConfig)config);

    internal override PeftAdapter Fresh(CausalLanguageModel model, AdapterConfig config, Generator generator) =>
        PeftAdapter.Attach(model, (LoraConfig)config, new FreshWeights(model, (LoraConfig)config, generator));

    internal override PeftAdapter Meta(CausalLanguageModel model, AdapterConfig config) => PeftAdapter.Attach(model, (LoraConfig)config, new MetaAdapterWeights(model, (LoraConfig)config));

    internal override PeftAdapter Load(CausalLanguageModel model, AdapterConfig config, SafetensorsFile file, JsonObject source, Action<string>? warn)
    {
        var lora = (LoraConfig)config;
        var weights = ExpertAdapters.Stacked(model, file, ref lora, source);
        LoraFileTensors.Of(model, lora).Check(model, weights, PeftFolder.BaseName(source), warn);
        var names = model.Config.Names;
        if (WeightTie.Of(model, lora).Keeps && HeadTie.IsBroken(weights, PeftFolder.FileName(names.EmbeddingWeight), PeftFolder.FileName(names.HeadWeight)))
        {
            warn?.Invoke($"{weights.Location}: ensure_weight_tying ties embedding and head, but the file contains two different weights; the embedding's is used for both.");
        }

        var savesEmbeddings = weights.Tensors.Any(static t => t.Name.EndsWith(".base_layer.weight", StringComparison.Ordinal));
        return PeftAdapter.Attach(model, lora, new FileWeights(model, lora, weights), source, savesEmbeddings);
    }

    internal override bool HasNoEffect(AdapterConfig config, ITensorSource file, CausalLanguageModel? model) => AdapterEffect.IsNone((LoraConfig)config, file, model);

    internal override bool NeedsBaseValues(AdapterConfig config) => ((LoraConfig)config).Init == LoraInit.Pissa;
}
