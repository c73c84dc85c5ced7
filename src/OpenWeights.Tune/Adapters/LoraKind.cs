using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Adapters.Starts;
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

    internal override PeftAdapter Fresh(CausalLanguageModel model, AdapterConfig config, Generator generator, StartData? data) =>
        Started(model, (LoraConfig)config, generator, data);

    private static PeftAdapter Started(CausalLanguageModel model, LoraConfig config, Generator generator, StartData? data)
    {
        using var findings = StartFindings.Measure(model, config, data);
        config = findings?.Config ?? config;
        var adapter = PeftAdapter.Attach(model, config, new FreshWeights(model, config, generator, findings));
        adapter.Schedule = config.Kasa is { Penalizes: true } kasa ? new KasaPenalty(kasa, adapter.Layers) : null;
        return adapter;
    }

    internal override PeftAdapter Meta(CausalLanguageModel model, AdapterConfig config) => PeftAdapter.Attach(model, (LoraConfig)config, new MetaAdapterWeights(model, (LoraConfig)config));

    internal override PeftAdapter Load(CausalLanguageModel model, AdapterConfig config, SafetensorsFile file, JsonObject source, Action<string>? warn)
    {
        var lora = (LoraConfig)config;
        using var start = StartFile.Find(Path.GetDirectoryName(file.Location)!, lora);
        using var replicas = PeftAdapter.Replicas(model, lora);
        try
        {
            return Load(model, lora, file, source, warn, start);
        }
        finally
        {
            if (replicas is not null && ReferenceEquals(model.Stack.Replicas, replicas))
            {
                model.Use(null);
            }
        }
    }

    private static PeftAdapter Load(CausalLanguageModel model, LoraConfig lora, SafetensorsFile file, JsonObject source, Action<string>? warn, ITensorSource? start)
    {
        var weights = ExpertAdapters.Stacked(model, file, ref lora, source);
        LoraFileTensors.Of(model, lora, LoraFileTensors.Vocabulary(model, weights)).Check(model, weights, PeftFolder.BaseName(source), warn);
        var names = model.Config.Names;
        if (WeightTie.Of(model, lora).Keeps && HeadTie.IsBroken(weights, PeftFolder.FileName(names.EmbeddingWeight), PeftFolder.FileName(names.HeadWeight)))
        {
            warn?.Invoke($"{weights.Location}: ensure_weight_tying ties embedding and head, but the file contains two different weights; the embedding's is used for both.");
        }

        var savesEmbeddings = weights.Tensors.Any(static t => t.Name.EndsWith(".base_layer.weight", StringComparison.Ordinal));
        return PeftAdapter.Attach(model, lora, new FileWeights(model, lora, weights, start), source, savesEmbeddings);
    }

    internal override bool HasNoEffect(AdapterConfig config, ITensorSource file, CausalLanguageModel? model) => AdapterEffect.IsNone((LoraConfig)config, file, model);

    internal override bool NeedsBaseValues(AdapterConfig config) =>
        config is LoraConfig lora && (LoraStarts.ChangesBase(lora.Init) || lora.Kasa is not null || lora.TrainableTokens.Count > 0);
}
