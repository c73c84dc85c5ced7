using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Quantized;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Kinds;
using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Training;

/// <summary>Loads the model of a run and sets up its trained parameters.</summary>
internal static class TrainedModel
{
    /// <summary>Loads the model of a run.</summary>
    /// <param name="config">The run.</param>
    /// <param name="modelPath">Folder of the base model; config.Model.Path may be only a name.</param>
    /// <param name="devices">The device, or several.</param>
    /// <param name="warn">Receives warnings about an adapter's file.</param>
    /// <param name="startData">Reads the training data from which some starts are computed; null where there is none.</param>
    /// <param name="labels">The head of labels that is trained; null for a language model.</param>
    /// <exception cref="InvalidDataException">The model or the adapter is invalid, or they do not match.</exception>
    internal static ITrainedModel Load(RunConfig config, string modelPath, ModelDevices devices, Action<string> warn, Func<StartData>? startData = null, LabelHead? labels = null)
    {
        var rows = NewTokens.Rows(config.Model, modelPath);
        var loaded = ModelLoader.LoadGrown(modelPath, Devices.DType(config.Model.Dtype), devices, Quantization(config.Quantization), config.Model.KeepsQuantized, labels, config.Adapter is null ? rows : null);
        loaded.ChatTemplate = NamedTemplates.Of(config, modelPath);
        loaded.Embedding = EmbeddingChoice.Of(config) ?? loaded.Embedding;
        if (EmbeddingChoice.Problem(config, loaded.Model) is { } oneWay)
        {
            loaded.Dispose();
            throw new InvalidDataException(oneWay);
        }

        loaded.Model.RouterLossWeight = config.Model.RouterAuxLoss ?? loaded.Model.RouterLossWeight;
        foreach (var warning in loaded.Warnings)
        {
            warn(warning);
        }

        return On(loaded, config, section => section.Path is null
            ? Create(loaded.Model, WithRows(WithText(Settings(section, loaded.Model.Config), modelPath), rows), config, startData)
            : PeftFolder.Load(loaded.Model, section.Path, warn, section.AnyBase));
    }

    /// <summary>The trained parameters of a model with meta weights: only shapes, in almost no memory.</summary>
    /// <param name="config">The run.</param>
    /// <param name="folder">Folder of the base model; config.json is enough.</param>
    /// <param name="decoder">Its decoder config.</param>
    /// <param name="dtype">Data type that the model would have.</param>
    /// <param name="device">Device that it would be on.</param>
    /// <param name="warn">Receives warnings about an adapter to continue from; null for none.</param>
    /// <exception cref="InvalidDataException">The adapter is invalid, or does not match the model.</exception>
    internal static ITrainedModel CreateMeta(RunConfig config, ModelFolder folder, DecoderConfig decoder, ScalarType dtype, Device device, Action<string>? warn = null)
    {
        var loaded = ModelLoader.Shapes(folder, decoder, dtype, device, Quantization(config.Quantization), config.Model.KeepsQuantized);
        return On(loaded, config, section =>
        {
            if (section.Path is not null)
            {
                return PeftFolder.Load(loaded.Model, section.Path, warn, section.AnyBase);
            }

            return PeftAdapter.CreateMeta(loaded.Model, Settings(section, loaded.Model.Config));
        });
    }

    /// <summary>The trained parameters of a model that is loaded already, and stays with the caller.</summary>
    /// <param name="loaded">The model.</param>
    /// <param name="config">The run.</param>
    /// <param name="adapter">The adapter on it; null to train the model's own weights.</param>
    internal static ITrainedModel Of(LoadedModel loaded, RunConfig config, PeftAdapter? adapter) =>
        On(loaded, config with { Adapter = adapter is null ? null : config.Adapter ?? new AdapterSection() }, _ => adapter!, leavesModel: true);

    /// <summary>A new adapter on a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="section">Its settings.</param>
    /// <param name="config">The run; its seed gives the adapter's first values.</param>
    /// <param name="modelPath">Folder of the model.</param>
    /// <param name="startData">Reads the training data from which some starts are computed; null where there is none.</param>
    /// <exception cref="InvalidDataException">The settings do not fit the model.</exception>
    internal static PeftAdapter NewAdapter(CausalLanguageModel model, AdapterSection section, RunConfig config, string modelPath, Func<StartData>? startData) =>
        Create(model, WithText(Settings(section, model.Config), modelPath), config, startData);

    /// <summary>Whether a new adapter's first values are computed from training data.</summary>
    /// <param name="section">Its settings.</param>
    internal static bool NeedsData(AdapterSection section) => Settings(section) is LoraConfig lora && LoraStarts.NeedsData(lora.Init);

    // A start may run the model backward, with the checkpointing of the run.
    private static PeftAdapter Create(CausalLanguageModel model, AdapterConfig settings, RunConfig config, Func<StartData>? startData)
    {
        model.Stack.ActivationCheckpointing = config.Training.Checkpointing;
        if (model.Placement is not null && settings is LoraConfig start && LoraStarts.NeedsData(start.Init))
        {
            throw new InvalidDataException($"adapter.init_lora_weights: {LoraStarts.Name(start)} measures the model on one device, and model.device names several; name one, or use another start.");
        }

        return PeftAdapter.Create(model, settings, config.Seed, settings is LoraConfig lora && LoraStarts.NeedsData(lora.Init) ? startData?.Invoke() : null);
    }

    private static ITrainedModel On(LoadedModel loaded, RunConfig config, Func<AdapterSection, PeftAdapter> put, bool leavesModel = false)
    {
        var training = config.Training;
        if (config.Adapter is not { } section)
        {
            return Full(loaded, training, leavesModel);
        }

        var adapter = put(section);
        var rates = section.LoraplusLrRatio == 1 ? null : new LoraPlusRates(section.LoraplusLrRatio, section.LoraplusLrEmbedding, training.LearningRate);
        return new AdapterTraining(loaded, adapter, rates, training.DecayNormsAndBiases, new AdapterTrainingOptions(training.Optimizer == "lora_fa", training.Rates)) { LeavesModel = leavesModel };
    }

    private static FullTraining Full(LoadedModel loaded, TrainingSection training, bool leavesModel)
    {
        var some = training.Trainable != "all" || training.FirstTrainedLayer > 0;
        if (training.FirstTrainedLayer >= loaded.Model.Config.LayerCount)
        {
            throw new InvalidDataException($"training.first_trained_layer: {NoSuchLayer(training.FirstTrainedLayer, loaded.Model.Config.LayerCount)}");
        }

        return new FullTraining(loaded, training.DecayNormsAndBiases, some ? new TrainedWeights(loaded.Model.Config.Names, training.FirstTrainedLayer, training.Trainable == "norms_and_biases") : null, training.Rates) { LeavesModel = leavesModel };
    }

    /// <summary>Refuses settings that do not go with a base whose weights are quantized already.</summary>
    /// <param name="config">The run.</param>
    /// <param name="folder">Folder of the base model; config.json is enough.</param>
    /// <exception cref="InvalidDataException">The run would train the quantized weights, or quantize them again.</exception>
    internal static void CheckQuantized(RunConfig config, ModelFolder folder)
    {
        if (!config.Model.KeepsQuantized || QuantizedModel.Of(folder.Config, folder.FolderPath) is not { } quantized)
        {
            return;
        }

        var problem = config.Quantization is not null ? "leave the quantization section out"
            : config.Adapter is null ? "they cannot be trained; add an adapter section"
            : null;
        if (problem is not null)
        {
            throw new InvalidDataException($"{folder.FolderPath}: the weights are quantized already ({quantized.Description}); {problem}, or set model.quantized: dequantize.");
        }
    }

    internal static string NoSuchLayer(int layer, int count) => $"there is no layer {layer}; the model's {count} layers are numbered from 0.";

    /// <summary>Quantization of a config's section; null for none.</summary>
    internal static QuantizationSettings? Quantization(QuantizationSection? section) => section is null ? null
        : new QuantizationSettings(section.Type == "int8" ? QuantizationKind.Int8 : QuantizationKind.Nf4, section.BlockSize, section.DoubleQuant);

    /// <summary>Settings of a new adapter on a model, whose head of labels is trained in full.</summary>
    internal static AdapterConfig Settings(AdapterSection section, DecoderConfig decoder)
    {
        var settings = Settings(section);
        return decoder.Labels is null || settings.SavesWhole(LabelHead.Module) ? settings : settings with { ModulesToSave = [.. settings.ModulesToSave, LabelHead.Module] };
    }

    /// <summary>Settings of a new adapter.</summary>
    internal static AdapterConfig Settings(AdapterSection section)
    {
        static TargetModules Targets(TextOrList value) => value.IsNames ? TargetModules.Of(value.Values) : TargetModules.Of(value.Values[0]);
        return ((AdapterConfig?)section.Own ?? Lora(section)) with
        {
            Targets = Targets(section.TargetModules),
            Excluded = section.ExcludeModules is { } excluded ? Targets(excluded) : null,
            LayersToTransform = section.LayersToTransform,
            LayersPattern = section.LayersPattern?.Values ?? [],
            ModulesToSave = section.ModulesToSave,
            Bias = section.Bias switch
            {
                "none" => BiasTraining.None,
                "all" => BiasTraining.All,
                _ => BiasTraining.LoraOnly,
            },
        };
    }

    // The tokens of the text that a prompt starts with.
    private static AdapterConfig WithText(AdapterConfig settings, string modelPath) => settings is PromptTuningConfig { PromptTuningInit: "TEXT", PromptTuningInitText: { Length: > 0 } text } prompt
        ? prompt with { InitTokens = [.. Tokenizer.Load(modelPath).Encode(text, addSpecialTokens: true).Select(static t => (long)t)] }
        : settings;

    private static AdapterConfig WithRows(AdapterConfig settings, NewRows? rows) => rows is null || settings is not LoraConfig lora ? settings : lora with { NewRows = rows };

    private static LoraConfig Lora(AdapterSection section) => LoraSection.With(new LoraConfig
    {
        Rank = section.Rank,
        Alpha = section.LoraAlpha,
        Dropout = section.LoraDropout,
        TargetParameters = section.TargetParameters,
        LoraBias = section.LoraBias,
        UseDora = section.UseDora,
        EnsureWeightTying = section.EnsureWeightTying,
        UseRslora = section.UseRslora,
        RankPattern = section.RankPattern,
        AlphaPattern = section.AlphaPattern,
    }, section);
}
