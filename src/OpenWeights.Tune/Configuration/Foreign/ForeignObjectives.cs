using System.Reflection;
using YamlDotNet.RepresentationModel;

namespace OpenWeights.Tune.Configuration.Foreign;

/// <summary>Converts what other programs train besides answers as they are: preferences, rewards, distillation.</summary>
internal static class ForeignObjectives
{
    private const string Type = "objective.type";

    // TRL's files do not name the trainer, but most of its settings belong to one.
    private static readonly (string Objective, string[] Marks)[] s_trl =
    [
        ("distill", ["teacher_model_name_or_path", "lmbda", "seq_kd"]),
        ("kto", ["desirable_weight", "undesirable_weight"]),
        ("cpo", ["cpo_alpha", "simpo_gamma"]),
        ("rloo", ["normalize_advantages", "reward_clip_range"]),
        ("grpo", ["num_generations", "max_completion_length", "num_iterations", "steps_per_generation", "reward_funcs", "scale_rewards"]),
        ("reward", ["center_rewards_coefficient"]),
        ("dpo", ["precompute_ref_log_probs", "f_divergence_type", "use_weighting", "ld_alpha", "rpo_alpha", "sync_ref_model", "reference_free", "discopop_tau", "loss_weights", "ref_model_mixup_alpha"]),
    ];

    /// <summary>Converts these parts.</summary>
    /// <returns>The keys that were handled; NAME.* for a whole section.</returns>
    internal static HashSet<string> Take(string tool, YamlMappingNode root, ConvertedConfig result) => tool switch
    {
        "Axolotl" => Axolotl(root, result),
        "LLaMA-Factory" => LlamaFactory(root, result),
        "torchtune" => Torchtune(root, result),
        "TRL" => Trl(root, result),
        _ => [],
    };

    /// <summary>The objective that a file of TRL is for; null for supervised fine-tuning.</summary>
    internal static string? OfTrl(YamlMappingNode root)
    {
        var marked = s_trl.FirstOrDefault(t => Array.Exists(t.Marks, m => root.Get(m) is not null)).Objective;
        string[] losses = [.. root.Get("loss_type").Texts()];
        return marked
            ?? (Array.Exists(losses, ObjectiveRules.Losses("kto").Contains) ? "kto"
            : Array.Exists(losses, static l => l is "simpo" or "alphapo") ? "cpo"
            : Array.Exists(losses, ObjectiveRules.Losses("dpo").Contains) || root.Get("beta") is not null ? "dpo"
            : null);
    }

    private static HashSet<string> Trl(YamlMappingNode root, ConvertedConfig result)
    {
        if (OfTrl(root) is not { } type)
        {
            return [];
        }

        result.Set(Type, type, "its settings");
        if (type == "dpo" && root.Get("beta") is not null && root.Get("loss_type") is null && !Array.Exists(s_trl[^1].Marks, m => root.Get(m) is not null))
        {
            result.Leave(Type, "TRL's files do not name the trainer, and beta belongs to several; dpo was written. For ORPO set it to orpo, for BCO to bco.");
        }

        // GKD's config is that of supervised fine-tuning.
        if (type != "distill" && root.Get("learning_rate") is null)
        {
            result.Set("training.learning_rate", type == "reward" ? "1.0e-4" : "1.0e-6", "default of TRL");
        }

        var taken = new HashSet<string>();
        if (type == "distill")
        {
            Copy(root, result, taken, ("teacher_model_name_or_path", "teacher"), ("temperature", "sampling_temperature"), ("max_new_tokens", "max_completion_length"));
            Default(root, result, "lmbda", "lmbda", "0.5", "default of TRL");
            Default(root, result, "temperature", "sampling_temperature", "0.9", "default of TRL");
        }

        Copy(root, result, taken, ("ref_model_name_or_path", "reference"));
        Copy(root, result, taken, [.. Own(type).Where(n => !taken.Contains(n) && ForeignNames.Find(n) is not { Values.Count: > 0 }).Select(static n => (n, n))]);
        if (Number(root, "rpo_alpha") is { } weight)
        {
            WithLikelihood(result, [.. root.Get("loss_type").Texts().DefaultIfEmpty("sigmoid")], weight, "rpo_alpha");
            taken.UnionWith(["rpo_alpha", "loss_type"]);
        }

        return taken;
    }

    // Settings of an objective that have TRL's names.
    private static IEnumerable<string> Own(string type) =>
        SettingInfo.Of(typeof(ObjectiveSection)).Where(s => s.Property.GetCustomAttribute<UsedByAttribute>()?.Types.Contains(type) == true).Select(static s => s.Key);

    private static HashSet<string> LlamaFactory(YamlMappingNode root, ConvertedConfig result)
    {
        var stage = root.Get("stage").Text();
        if (stage is not ("dpo" or "kto" or "rm"))
        {
            return [];
        }

        var taken = new HashSet<string> { "stage", "pref_loss", "pref_ftx", "dpo_label_smoothing", "simpo_gamma" };
        if (stage == "rm")
        {
            result.Set(Type, "reward", "stage: rm");
            return taken;
        }

        var (loss, from) = (root.Get("pref_loss").Text() ?? "sigmoid", $"stage: {stage}");
        var type = stage == "kto" ? "kto" : loss is "orpo" ? "orpo" : loss is "simpo" ? "cpo" : "dpo";
        result.Set(Type, type, type == stage ? from : $"pref_loss: {loss}");
        Copy(root, result, taken, ("pref_beta", "beta"), ("ld_alpha", "ld_alpha"), ("kto_chosen_weight", "desirable_weight"), ("kto_rejected_weight", "undesirable_weight"), ("ref_model", "reference"));
        var (likelihood, smoothing) = (Number(root, "pref_ftx"), Number(root, "dpo_label_smoothing"));
        switch (type)
        {
            case "cpo":
                result.Set("objective.loss_type", "simpo", "pref_loss");
                result.Set("objective.cpo_alpha", Written(likelihood ?? 0), "pref_ftx");
                Copy(root, result, taken, ("simpo_gamma", "simpo_gamma"));
                break;
            case "dpo":
                // With smoothing its sigmoid is TRL's of before 0.29.
                loss = loss == "sigmoid" && smoothing is not null ? "cdpo" : loss;
                WithLikelihood(result, [loss], likelihood, "pref_loss, pref_ftx");
                Put(result, "objective.label_smoothing", smoothing, "dpo_label_smoothing");
                break;
        }

        return taken;
    }

    private static HashSet<string> Axolotl(YamlMappingNode root, ConvertedConfig result)
    {
        var taken = new HashSet<string> { "rl" };
        if (root.Get("reward_model").Text() is "true")
        {
            result.Set(Type, "reward", "reward_model");
            return ["reward_model"];
        }

        var kind = root.Get("rl").Text()?.ToLowerInvariant();
        if (kind is null or "sft")
        {
            return [];
        }

        result.Set(Type, kind switch { "ipo" => "dpo", "simpo" => "cpo", "gdpo" => "grpo", _ => kind }, $"rl: {kind}");
        if (kind is "ipo" or "simpo")
        {
            result.Set("objective.loss_type", kind, $"rl: {kind}");
        }

        Copy(root, result, taken, ("rl_beta", "beta"), ("dpo_beta", "beta"), ("orpo_alpha", "beta"), ("dpo_label_smoothing", "label_smoothing"), ("dpo_use_weighting", "use_weighting"), ("dpo_loss_type", "loss_type"),
            ("dpo_loss_weights", "loss_weights"), ("kto_desirable_weight", "desirable_weight"), ("kto_undesirable_weight", "undesirable_weight"));
        if (root.Get("dpo_norm_loss").Text() is "true")
        {
            result.Set("objective.loss_type", "sigmoid_norm", "dpo_norm_loss");
            _ = taken.Add("dpo_norm_loss");
        }

        if (Number(root, "rpo_alpha") is { } weight && kind is "dpo")
        {
            WithLikelihood(result, [.. root.Get("dpo_loss_type").Texts().DefaultIfEmpty("sigmoid")], weight, "rpo_alpha");
            _ = taken.Add("rpo_alpha");
        }

        return taken;
    }

    private static HashSet<string> Torchtune(YamlMappingNode root, ConvertedConfig result)
    {
        static string Last(YamlNode? node) => node?.Get("_component_").Text() is { } component ? component[(component.LastIndexOf('.') + 1)..] : "";
        var taken = new HashSet<string>();
        var (loss, divergence) = (root.Get("loss") as YamlMappingNode, Last(root.Get("kd_loss")));
        switch (Last(loss))
        {
            case "DPOLoss":
                result.Set(Type, "dpo", "loss");
                Copy(loss!, result, [], ("beta", "beta"), ("label_smoothing", "label_smoothing"));
                Put(result, "objective.loss_type", Number(loss!, "label_smoothing") is null ? null : "cdpo", "loss.label_smoothing");
                return ["loss.*"];
            case "RSOLoss":
                result.Set(Type, "dpo", "loss");
                result.Set("objective.loss_type", "hinge", "loss");
                Copy(loss!, result, [], ("gamma", "beta"));
                return ["loss.*"];
            case "SimPOLoss":
                result.Set(Type, "cpo", "loss");
                result.Set("objective.loss_type", "simpo", "loss");
                result.Set("objective.cpo_alpha", "0", "loss");
                Copy(loss!, result, [], ("beta", "beta"), ("gamma", "simpo_gamma"), ("label_smoothing", "label_smoothing"));
                return ["loss.*"];
        }

        if (divergence.Length == 0 || root.Get("teacher_checkpointer")?.Get("checkpoint_dir").Text() is not { } teacher)
        {
            return taken;
        }

        result.Set(Type, "distill", "kd_loss");
        result.Set("objective.teacher", ForeignValue.Text(teacher), "teacher_checkpointer.checkpoint_dir");
        if (divergence.StartsWith("ForwardKL", StringComparison.Ordinal) || divergence.StartsWith("ReverseKL", StringComparison.Ordinal))
        {
            result.Set("objective.beta", divergence[0] == 'F' ? "0" : "1", "kd_loss");
        }
        else
        {
            result.Leave("kd_loss", $"'{divergence}' has no counterpart here; objective.beta is the generalised Jensen-Shannon divergence's.");
        }

        if (Number(root, "kd_ratio") is not 1)
        {
            result.Leave("kd_ratio", "the loss here is the divergence from the teacher alone; torchtune adds the cross entropy, with the rest of kd_ratio as weight.");
        }

        return ["kd_loss.*", "kd_ratio", "teacher_checkpointer.*", "teacher_model.*"];
    }

    // Several losses: the given ones, and the likelihood of chosen answers.
    private static void WithLikelihood(ConvertedConfig result, string[] losses, double? weight, string from)
    {
        string[] all = [.. losses, .. weight is > 0 ? ["sft"] : Array.Empty<string>()];
        result.Set("objective.loss_type", all.Length == 1 ? all[0] : $"[{string.Join(", ", all)}]", from);
        Put(result, "objective.loss_weights", weight is > 0 ? $"[{string.Join(", ", losses.Select(static _ => "1").Append(Written(weight.Value)))}]" : null, from);
    }

    private static void Copy(YamlMappingNode root, ConvertedConfig result, HashSet<string> taken, params (string Theirs, string Ours)[] names)
    {
        foreach (var (theirs, ours) in names)
        {
            if (root.Get(theirs) is { } value && (value is not YamlScalarNode || value.Text() is not null))
            {
                result.Set($"objective.{ours}", ForeignValue.Write(value), theirs);
                _ = taken.Add(theirs);
            }
        }
    }

    private static void Default(YamlMappingNode root, ConvertedConfig result, string theirs, string ours, string value, string comment)
    {
        if (root.Get(theirs) is null)
        {
            result.Set($"objective.{ours}", value, comment);
        }
    }

    private static void Put(ConvertedConfig result, string key, double? value, string comment) => Put(result, key, value is { } number ? Written(number) : null, comment);

    private static void Put(ConvertedConfig result, string key, string? value, string comment)
    {
        if (value is not null)
        {
            result.Set(key, value, comment);
        }
    }

    // A number other than 0.
    private static double? Number(YamlMappingNode root, string name) =>
        double.TryParse(root.Get(name).Text(), System.Globalization.CultureInfo.InvariantCulture, out var number) && number != 0 ? number : null;

    private static string Written(double number) => number.ToString("R", System.Globalization.CultureInfo.InvariantCulture);
}
