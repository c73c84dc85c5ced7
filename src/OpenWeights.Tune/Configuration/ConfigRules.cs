using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Configuration;

/// <summary>Checks that involve several settings.</summary>
internal static class ConfigRules
{
    /// <summary>The problems, each with the name of its setting.</summary>
    internal static IEnumerable<(string Key, string Message)> Of(RunConfig config)
    {
        foreach (var problem in OfTraining(config.Training))
        {
            yield return problem;
        }

        if (config.Data.Train.Count == 0)
        {
            yield return ("data.train", "at least one data set is required, such as `train: [ { path: rows.jsonl } ]`.");
        }

        if ((config.Evaluation.EarlyStoppingPatience > 0 || config.Evaluation.KeepBest) && config.Data.Eval.Count == 0 && config.Data.EvalFraction == 0)
        {
            yield return ("evaluation", "early_stopping_patience and keep_best need an eval loss; set data.eval or data.eval_fraction.");
        }

        foreach (var problem in ObjectiveRules.Of(config.Objective))
        {
            yield return problem;
        }

        foreach (var problem in ReinforcementRules.Of(config))
        {
            yield return problem;
        }

        foreach (var problem in DataRules.Of(config.Data))
        {
            yield return problem;
        }

        foreach (var problem in config.Mlflow is { } mlflow ? MlflowSection.Problems(mlflow) : [])
        {
            yield return problem;
        }

        if (config.Model.NewTokens.GroupBy(static t => t.Token).FirstOrDefault(static g => g.Count() > 1) is { Key: var twice })
        {
            yield return ("model.new_tokens", $"'{twice}' is named twice.");
        }

        if (config.Quantization is { } quantization)
        {
            if (config.Adapter is null)
            {
                yield return ("quantization", "a quantized base model cannot be trained; add an adapter section, or remove quantization.");
            }

            if (!int.IsPow2(quantization.BlockSize))
            {
                yield return ("quantization.block_size", $"{quantization.BlockSize} is not a power of two; the usual value is 64.");
            }
        }

        if (Devices.NameProblem(config.Model.Device.Values) is { } device)
        {
            yield return ("model.device", device);
        }

        if (config.Training.Optimizer is "lora_fa" or "riemannian_adamw" && config.Adapter is null)
        {
            yield return ("training.optimizer", $"{config.Training.Optimizer} updates the matrices of a LoRA adapter, and there is no adapter section; add one, or choose another optimizer.");
        }

        if (config.Adapter is not { } adapter)
        {
            yield break;
        }

        foreach (var problem in AdapterRules(config, adapter))
        {
            yield return problem;
        }
    }

    /// <summary>Problems within the training section.</summary>
    internal static IEnumerable<(string Key, string Message)> OfTraining(TrainingSection training)
    {
        if (training.Betas.Count != 2)
        {
            yield return ("training.betas", "two numbers are expected, such as [0.9, 0.95].");
        }

        if (training is { WarmupRatio: not null, WarmupSteps: not null })
        {
            yield return ("training.warmup_ratio", "set warmup_ratio or warmup_steps, not both.");
        }

        foreach (var problem in OptimizerRules.Of(training))
        {
            yield return problem;
        }

        if (training is { Offload: "activations", Checkpointing: ActivationCheckpointing.None })
        {
            yield return ("training.offload", "offloading activations requires checkpointing; set training.activation_checkpointing to block or selective.");
        }
    }

    private static IEnumerable<(string Key, string Message)> AdapterRules(RunConfig config, AdapterSection adapter)
    {
        if (config.Training.Trainable != "all" || config.Training.FirstTrainedLayer > 0)
        {
            yield return ("adapter", "training.trainable and training.first_trained_layer apply to full fine-tuning only; with an adapter use target_modules, layers_to_transform and bias.");
        }

        var ownBiases = adapter.Own is { } own ? own.OwnBiases : "lora_only";
        if (adapter.Bias != "none" && ownBiases is null)
        {
            yield return ("adapter.bias", $"{adapter.Type} trains no biases; remove bias, or use another type, such as lora.");
        }
        else if (adapter.Bias is not ("none" or "all" or "lora_only") && adapter.Bias != ownBiases)
        {
            yield return ("adapter.bias", $"{adapter.Bias} belongs to another type; {adapter.Type} has none, all and {ownBiases}.");
        }

        if (adapter.UseDora && adapter.LoraBias)
        {
            yield return ("adapter.use_dora", "use_dora cannot be combined with lora_bias; choose one of them.");
        }

        foreach (var problem in AdapterFormRules.Of(adapter))
        {
            yield return problem;
        }

        if (adapter.LayersToTransform.Count > 0 && adapter.TargetModules is { IsNames: false } pattern && pattern.Values[0] != "all-linear")
        {
            yield return ("adapter.layers_to_transform", "layers_to_transform cannot be combined with a regular expression in target_modules; give a list of module names, or remove layers_to_transform.");
        }

        if (adapter.LayersPattern is not null && adapter.LayersToTransform.Count == 0)
        {
            yield return ("adapter.layers_pattern", "layers_pattern requires layers_to_transform, which is empty.");
        }
    }
}
