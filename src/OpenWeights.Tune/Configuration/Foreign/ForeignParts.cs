using OpenWeights.Formats.HuggingFace;
using OpenWeights.Formats.Json;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>Converts what cannot be mapped name by name: data sets, and settings that depend on each other.</summary>
internal static class ForeignParts
{
    // TRL's name, and the one that it had before.
    private static readonly string[] s_maxLengths = ["max_length", "max_seq_length"];

    // Classes of torch, bitsandbytes and schedulefree, in small letters unless two have one name.
    private static readonly Dictionary<string, string> s_optimizers = new()
    {
        ["adam"] = "adamw",
        ["adamw"] = "adamw",
        ["sgd"] = "sgd",
        ["lion"] = "lion",
        ["muon"] = "muon",
        ["ademamix"] = "ademamix",
        ["adafactor"] = "adafactor",
        ["torch.optim.Adafactor"] = "adafactor_torch",
        ["adamw8bit"] = "adamw_8bit",
        ["lion8bit"] = "lion_8bit",
        ["ademamix8bit"] = "ademamix_8bit",
        ["pagedadamw"] = "paged_adamw",
        ["pagedadamw32bit"] = "paged_adamw",
        ["pagedadamw8bit"] = "paged_adamw_8bit",
        ["pagedlion"] = "paged_lion",
        ["pagedlion8bit"] = "paged_lion_8bit",
        ["pagedademamix"] = "paged_ademamix",
        ["pagedademamix8bit"] = "paged_ademamix_8bit",
        ["adamwschedulefree"] = "schedule_free_adamw",
    };

    /// <summary>Converts these parts.</summary>
    /// <returns>The keys that were handled; NAME.* for a whole section.</returns>
    internal static HashSet<string> Take(string tool, YamlMappingNode root, string folder, ConvertedConfig result)
    {
        HashSet<string> taken = tool switch
        {
            "Axolotl" => Axolotl(root, result),
            "LLaMA-Factory" => LlamaFactory(root, folder, result),
            "torchtune" => Torchtune(root, result),
            "mlx-lm" => MlxLm(root, folder, result),
            _ => Trl(root, folder, result),
        };
        taken.UnionWith(TemplateVariables(root, result));
        taken.UnionWith(ForeignObjectives.Take(tool, root, result));
        return taken;
    }

    /// <summary>Value of a setting of ours by dotted name; null if not set.</summary>
    internal static SettingInfo? Setting(string ours)
    {
        var type = typeof(RunConfig);
        SettingInfo? setting = null;
        foreach (var part in ours.Split('.'))
        {
            if (int.TryParse(part, out _))
            {
                type = type.IsGenericType ? type.GetGenericArguments()[0] : type;
                continue;
            }

            setting = SettingInfo.Of(type).FirstOrDefault(s => s.Key == part);
            if (setting is null)
            {
                return null;
            }

            type = Nullable.GetUnderlyingType(setting.Property.PropertyType) ?? setting.Property.PropertyType;
        }

        return setting;
    }

    private static bool IsTrue(YamlNode? node) => node.Text()?.ToLowerInvariant() is "true";

    private static void Put(ConvertedConfig result, string key, string? value, string comment)
    {
        if (value is { Length: > 0 })
        {
            result.Set(key, value, comment);
        }
    }

    private static HashSet<string> TemplateVariables(YamlMappingNode root, ConvertedConfig result)
    {
        const string map = "chat_template_kwargs";
        const string thinking = "enable_thinking";
        var values = root.Get(map) is YamlMappingNode given ? new YamlMappingNode(given.Children) : new YamlMappingNode();
        if (root.Get(thinking) is YamlScalarNode { Value: not null } flag && flag.Text() is not null)
        {
            values.Add(thinking, flag);
        }

        Put(result, $"data.{map}", values.Children.Count > 0 ? ForeignValue.Write(values) : null, root.Get(map) is null ? thinking : map);
        return [$"{map}.*", thinking];
    }

    private static HashSet<string> Axolotl(YamlMappingNode root, ConvertedConfig result)
    {
        var adapter = root.Get("adapter").Text();
        if (adapter is "lora" or "qlora")
        {
            result.Set("adapter.type", "lora", $"adapter: {adapter}");
        }
        else if (adapter is not null)
        {
            result.Leave("adapter", $"'{adapter}' has no counterpart here; only LoRA is supported.");
        }

        if (adapter == "qlora" || IsTrue(root.Get("load_in_4bit")))
        {
            result.Set("quantization.type", "nf4", adapter == "qlora" ? "adapter: qlora" : "load_in_4bit");
        }

        ForeignDataSets.Axolotl(root.Get("datasets"), "data.train", result);
        ForeignDataSets.Axolotl(root.Get("test_datasets"), "data.eval", result);
        if (!result.Has("data.train_on") && root.Get("train_on_inputs") is null)
        {
            result.Set("data.train_on", "assistant", "default of Axolotl");
        }

        // These have no meaning without an adapter.
        var taken = new HashSet<string> { "adapter", "datasets", "test_datasets", "load_in_4bit" };
        if (adapter is null)
        {
            taken.UnionWith(root.Children.Keys.OfType<YamlScalarNode>().Select(static k => k.Value!).Where(static k => k.StartsWith("lora_", StringComparison.Ordinal)));
        }

        return taken;
    }

    private static HashSet<string> LlamaFactory(YamlMappingNode root, string folder, ConvertedConfig result)
    {
        var kind = root.Get("finetuning_type").Text() ?? "lora";
        if (kind == "lora")
        {
            result.Set("adapter.type", "lora", "finetuning_type: lora");
        }
        else if (kind != "full")
        {
            result.Leave("finetuning_type", $"'{kind}' has no counterpart here; training.first_trained_layer trains the last layers.");
        }

        var limit = root.Get("max_samples").Text();
        ForeignDataSets.LlamaFactory(root, "dataset", "data.train", folder, limit, result);
        ForeignDataSets.LlamaFactory(root, "eval_dataset", "data.eval", folder, limit, result);
        if (root.Get("stage").Text() is "pt")
        {
            result.Set("data.train_on", "all", "stage: pt");
            result.Set("objective.type", "sft", "stage: pt");
            Put(result, "data.packing", root.Get("packing").Text() is null && root.Get("neat_packing").Text() is null ? "true" : null, "default of LLaMA-Factory for stage: pt");
        }

        var taken = new HashSet<string> { "finetuning_type", "dataset", "eval_dataset", "max_samples", "dataset_dir" };
        if (root.Get("stage").Text() is "pt")
        {
            _ = taken.Add("stage");
        }

        return taken;
    }

    private static HashSet<string> Torchtune(YamlMappingNode root, ConvertedConfig result)
    {
        var model = root.Get("model");
        var component = model?.Get("_component_").Text() ?? "";
        var kind = component[(component.LastIndexOf('.') + 1)..];
        if (kind.StartsWith("lora_", StringComparison.Ordinal) || kind.StartsWith("qlora_", StringComparison.Ordinal) || kind.StartsWith("dora_", StringComparison.Ordinal) || model?.Get("lora_rank") is not null)
        {
            result.Set("adapter.type", "lora", kind);
            Modules(model!, result);
        }

        if (kind.StartsWith("qlora_", StringComparison.Ordinal) || IsTrue(model?.Get("quantize_base")))
        {
            result.Set("quantization.type", "nf4", kind.Length > 0 ? kind : "quantize_base");
        }

        if (kind.StartsWith("dora_", StringComparison.Ordinal))
        {
            result.Set("adapter.use_dora", "true", kind);
        }

        var optimizer = root.Get("optimizer")?.Get("_component_").Text() ?? "";
        var name = optimizer[(optimizer.LastIndexOf('.') + 1)..].ToLowerInvariant();
        Put(result, "training.optimizer", s_optimizers.GetValueOrDefault(optimizer) ?? s_optimizers.GetValueOrDefault(name), optimizer);
        if (name.Length > 0 && !result.Has("training.optimizer"))
        {
            result.Leave("optimizer._component_", $"'{optimizer}' has no counterpart here.");
        }

        // Of torch's optimizers only AdamW has a weight decay by default.
        Put(result, "training.weight_decay", name is "adam" or "sgd" && root.Get("optimizer")?.Get("weight_decay") is null ? "0" : null, $"default of {optimizer}");

        var schedule = root.Get("lr_scheduler")?.Get("_component_").Text() ?? "";
        Put(result, "training.lr_scheduler", schedule.Contains("cosine", StringComparison.Ordinal) ? "cosine" : schedule.Contains("linear", StringComparison.Ordinal) ? "linear" : null, schedule);
        ForeignDataSets.Torchtune(root.Get("dataset"), "data.train", result);
        ForeignDataSets.Torchtune(root.Get("dataset_val"), "data.eval", result);
        return
        [
            "dataset.*", "dataset_val.*", "model._component_", "model.lora_attn_modules", "model.apply_lora_to_mlp", "model.apply_lora_to_output", "optimizer._component_", "lr_scheduler._component_",
            "loss._component_", "tokenizer._component_", "checkpointer._component_", "checkpointer.checkpoint_files", "checkpointer.model_type", "checkpointer.output_dir", "checkpointer.recipe_checkpoint",
            "metric_logger.*", "profiler.*",
        ];
    }

    private static void Modules(YamlNode model, ConvertedConfig result)
    {
        var names = model.Get("lora_attn_modules").Texts().Select(static n => n == "output_proj" ? "o_proj" : n).ToList();
        names.AddRange(IsTrue(model.Get("apply_lora_to_mlp")) ? ["gate_proj", "up_proj", "down_proj"] : []);
        names.AddRange(IsTrue(model.Get("apply_lora_to_output")) ? ["lm_head"] : []);
        if (names.Count > 0)
        {
            result.Set("adapter.target_modules", $"[{string.Join(", ", names)}]", "lora_attn_modules, apply_lora_to_mlp, apply_lora_to_output");
        }
    }

    private static HashSet<string> MlxLm(YamlMappingNode root, string folder, ConvertedConfig result)
    {
        var kind = root.Get("fine_tune_type").Text() ?? "lora";
        if (kind is "lora" or "dora")
        {
            result.Set("adapter.type", "lora", $"fine_tune_type: {kind}");
            Put(result, "adapter.use_dora", kind == "dora" ? "true" : null, "fine_tune_type: dora");
        }

        if (root.Get("data").Text() is { } data)
        {
            result.Set("data.train.0.path", ForeignValue.Text($"{data.TrimEnd('/')}/train.jsonl"), "data");
            result.Set("data.eval.0.path", ForeignValue.Text($"{data.TrimEnd('/')}/valid.jsonl"), "data");
        }

        Put(result, "data.train_on", IsTrue(root.Get("mask_prompt")) ? "completion" : null, "mask_prompt");
        LastLayers(root, folder, isFull: kind == "full", result);

        // MLX's AdamW has weight decay, its Adam does not.
        Put(result, "training.weight_decay", root.Get("optimizer").Text()?.ToLowerInvariant() == "adamw" && root.Get("optimizer_config")?.Get("adamw")?.Get("weight_decay") is null ? "0.01" : null, "default of MLX's AdamW");
        return ["fine_tune_type", "data", "mask_prompt", "num_layers", "lora_layers"];
    }

    // mlx-lm counts the trained layers from the end; 0 or less means all layers.
    private static void LastLayers(YamlMappingNode root, string folder, bool isFull, ConvertedConfig result)
    {
        const int usual = 16;
        var name = root.Get("lora_layers") is not null && root.Get("num_layers") is null ? "lora_layers" : "num_layers";
        var written = root.Get(name).Text();
        if (!int.TryParse(written ?? $"{usual}", out var count) || count <= 0)
        {
            return;
        }

        var (from, setting) = (written is null ? $"default {name} of mlx-lm" : name, isFull ? "training.first_trained_layer" : "adapter.layers_to_transform");
        if (ModelSetting("num_hidden_layers", root.Get("model").Text(), folder) is not { } all)
        {
            result.Leave(name, $"mlx-lm trains the last {count} layers; the number of layers is unknown because the model's config.json is not available locally. For a model of 32 layers set {setting}: {(isFull ? $"{Math.Max(0, 32 - count)}" : $"[{Math.Max(0, 32 - count)}, ..., 31]")}.");
        }
        else if (count < all)
        {
            result.Set(setting, isFull ? $"{all - count}" : $"[{string.Join(", ", Enumerable.Range(all - count, count))}]", $"{from}: the last {count} of {all}");
        }
    }

    // A number in the config.json of a local model, in a folder or in the hub cache.
    private static int? ModelSetting(string setting, string? model, string folder)
    {
        var config = new[] { model is null ? null : Path.GetFullPath(model, folder), model, model is null ? null : ModelPath.Cached(model) }
            .OfType<string>().Select(static place => Path.Combine(place, ModelFolder.ConfigName)).FirstOrDefault(File.Exists);
        try
        {
            var json = config is null ? null : JsonFile.ReadObject(config);
            return (int?)(json?[setting] ?? json?["text_config"]?[setting]);
        }
        catch (Exception e) when (e is InvalidDataException or IOException or InvalidOperationException or FormatException)
        {
            return null;
        }
    }

    private static HashSet<string> Trl(YamlMappingNode root, string folder, ConvertedConfig result)
    {
        var hasAdapter = IsTrue(root.Get("use_peft")) || root.Get("lora_r") is not null;
        if (hasAdapter)
        {
            result.Set("adapter.type", "lora", "use_peft");
        }

        ForeignDataSets.Named(root, "dataset_name", "data.train", result);

        if (ForeignObjectives.OfTrl(root) is "grpo" or "rloo")
        {
            result.Set("data.over_length", "error", "prompts are not cut");
            return ["use_peft", "dataset_name"];
        }

        Put(result, "data.train_on", IsTrue(root.Get("assistant_only_loss")) ? "assistant" : IsTrue(root.Get("completion_only_loss")) ? "completion" : null, "assistant_only_loss, completion_only_loss");
        if (ForeignObjectives.OfTrl(root) is null && root.Get("completion_only_loss").Text() is null && !IsTrue(root.Get("assistant_only_loss")))
        {
            result.Leave("completion_only_loss", "by default TRL trains only the completion of rows with prompt and completion, and the whole of other rows; data.train_on was set to all, so set it to completion if the rows have prompt and completion.");
        }

        foreach (var name in s_maxLengths.Where(n => root.Get(n) is YamlScalarNode given && given.Text() is null))
        {
            Unlimited(name, ModelSetting("max_position_embeddings", root.Get("model_name_or_path").Text(), folder), result);
        }

        return ["use_peft", "dataset_name", "assistant_only_loss", "completion_only_loss"];
    }

    // Without a maximum TRL truncates nothing. Here there is always a maximum, so rows beyond it are refused rather than cut.
    private static void Unlimited(string name, int? context, ConvertedConfig result)
    {
        var length = context ?? new DataSection().MaxLength;
        result.Set("data.max_length", $"{length}", context is null ? "" : $"{name}: null; the model's context");
        result.Set("data.over_length", "error", $"{name}: null");
        if (context is null)
        {
            result.Leave(name, $"null means that TRL truncates no row; here rows always have a maximum length, and longer ones are refused. If there are rows of more than {length} tokens, raise data.max_length.");
        }
    }
}
