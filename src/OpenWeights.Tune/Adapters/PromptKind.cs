using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers.Attention;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A kind of adapter that puts virtual tokens ahead of every text. PEFT's file has their finished embeddings alone, not what computed them.</summary>
/// <typeparam name="T">The kind's settings.</typeparam>
internal abstract class PromptKind<T> : AdapterKind
    where T : PromptConfig, new()
{
    /// <summary>Name of the embeddings in the file.</summary>
    internal const string FileName = "prompt_embeddings";

    internal override Type Settings => typeof(T);

    /// <summary>Keys of adapter_config.json that change nothing of a finished adapter.</summary>
    private protected virtual IReadOnlyCollection<string> Harmless => [];

    internal override AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown)
    {
        var config = new T();
        KindSettings.Read(config, json, path, ([], ["token_dim", "num_attention_heads", "num_layers", "num_transformer_submodules", .. Harmless]), out unknown);
        return PeftConfig.ReadCommon(config, json, path, needsTargets: false);
    }

    internal override JsonObject Write(PeftAdapter adapter, string? baseModel)
    {
        var json = adapter.Source?.DeepClone().AsObject();
        if (json is null)
        {
            var (width, heads) = Shape(adapter.Base);
            json = new JsonObject
            {
                ["auto_mapping"] = null,
                ["base_model_name_or_path"] = null,
                ["inference_mode"] = true,
                ["modules_to_save"] = null,
                ["num_attention_heads"] = heads,
                ["num_layers"] = adapter.Base.Config.LayerCount,
                ["num_transformer_submodules"] = 1,
                ["peft_type"] = PeftType,
                ["peft_version"] = "0.21.0",
                ["revision"] = null,
                ["task_type"] = "CAUSAL_LM",
                ["token_dim"] = width,
            };
            KindSettings.Write((T)adapter.Config, json);
        }

        PeftConfig.WriteBase(json, baseModel);
        return json;
    }

    internal override IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, AdapterConfig config)
    {
        foreach (var (setting, isSet) in new[]
        {
            ("target_modules", config.Targets is not { Names: null, Pattern: null } and not { Names.Count: 0 }), ("exclude_modules", config.Excluded is not null), ("modules_to_save", config.ModulesToSave.Count > 0),
            ("layers_to_transform", config.LayersToTransform.Count > 0),
        })
        {
            if (isSet)
            {
                yield return (setting, $"{config.TypeName} adapts no modules; remove it.");
            }
        }

        if (Problem(model, (T)config) is { } problem)
        {
            yield return problem;
        }
    }

    internal override PeftAdapter Fresh(CausalLanguageModel model, AdapterConfig config, Generator generator, StartData? data) => Attach(config, new FreshTensors(model, generator), source: null);

    internal override PeftAdapter Meta(CausalLanguageModel model, AdapterConfig config) => Attach(config, new MetaTensors(model), source: null);

    internal override PeftAdapter Load(CausalLanguageModel model, AdapterConfig config, SafetensorsFile file, JsonObject source, Action<string>? warn)
    {
        if (Problems(model, config).Select(static p => $"{p.Setting}: {p.Message}").FirstOrDefault() is { } problem)
        {
            throw new InvalidDataException($"{file.Location}: {problem}");
        }

        var asked = new AskedTensors(model, file);
        Part((T)config, asked).Dispose();
        asked.Asked.Check(model, file, PeftFolder.BaseName(source), warn);
        return Attach(config, new FileTensors(model, file), source);
    }

    internal override bool HasNoEffect(AdapterConfig config, ITensorSource file, CausalLanguageModel? model) => false;

    /// <summary>Why the kind cannot be used with a model, with the name of the setting; null if it can.</summary>
    private protected virtual (string Setting, string Message)? Problem(CausalLanguageModel model, T config) => null;

    /// <summary>Width of a virtual token in a layer, and the number of heads that it has there.</summary>
    private protected virtual (long Width, int Heads) Shape(CausalLanguageModel model) =>
        (model.Config.HiddenSize, model.Stack.Layers[0].Mixer?.Part is SelfAttention attention ? attention.Settings.HeadCount : 1);

    /// <summary>The virtual tokens; from a file they have no encoder.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="tensors">Source of the tensors.</param>
    private protected abstract PromptPart Part(T config, AdapterTensors tensors);

    private PeftAdapter Attach(AdapterConfig config, AdapterTensors tensors, JsonObject? source)
    {
        var part = Part((T)config, tensors);
        var adapter = PeftAdapter.Attach(tensors.Model, config, [part], source);
        adapter.Schedule = part.HasEncoder ? new EncoderState(part) : null;
        return adapter;
    }

    // What computes the embeddings is not in PEFT's file.
    private sealed class EncoderState(PromptPart part) : IAdapterSchedule
    {
        public Tensor? Penalty() => null;

        public void Stepped(long step, long steps)
        {
        }

        public IEnumerable<(string Name, Tensor Tensor)> State() => part.Parameters.Select(static p => (p.Name, (Tensor)p.Parameter));

        public void Restore(Func<string, Tensor?> read)
        {
            using var nothing = no_grad();
            foreach (var (name, parameter) in part.Parameters)
            {
                using var scope = NewDisposeScope();
                _ = parameter.copy_(read(name)!);
            }
        }

        public void Dispose()
        {
        }
    }
}
