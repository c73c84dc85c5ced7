using System.Reflection;
using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>Checks of the objective section.</summary>
internal static class ObjectiveRules
{
    private static readonly Dictionary<string, string[]> s_losses = new()
    {
        ["sft"] = ["nll", "dft"],
        ["dpo"] = ["sigmoid", "cdpo", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm", "sft"],
        ["cpo"] = ["sigmoid", "hinge", "ipo", "simpo", "alphapo"],
        ["kto"] = ["kto", "apo_zero_unpaired"],
        ["grpo"] = ["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo"],
    };

    // Losses of log-ratios that an f-divergence can transform.
    private static readonly string[] s_divergent = ["sigmoid", "cdpo", "hinge", "ipo", "exo_pair", "robust", "discopop", "sigmoid_norm", "sft"];
    private static readonly string[] s_smoothed = ["cdpo", "exo_pair", "robust", "aot", "aot_unpaired"];
    private static readonly string[] s_sorted = ["aot", "aot_unpaired"];

    /// <summary>The names of loss_type for an objective; none if it has only one loss.</summary>
    internal static IReadOnlyList<string> Losses(string type) => s_losses.GetValueOrDefault(type) ?? [];

    /// <summary>The problems, each with the name of its setting.</summary>
    internal static IEnumerable<(string Key, string Message)> Of(ObjectiveSection section)
    {
        var plain = new ObjectiveSection();

        // A class of the user's takes what settings it likes.
        foreach (var setting in OwnClass.Is(section.Type) ? [] : SettingInfo.Of(typeof(ObjectiveSection)))
        {
            if (setting.Property.GetCustomAttribute<UsedByAttribute>() is { } used && !used.Types.Contains(section.Type) && !Same(setting.Property.GetValue(section), setting.Property.GetValue(plain)))
            {
                yield return ($"objective.{setting.Key}", $"the objective {section.Type} has no such setting; it belongs to {string.Join(", ", used.Types)}. Remove it, or choose another objective.type.");
            }
        }

        var (losses, valid) = (section.LossType?.Values ?? [], Losses(section.Type));
        foreach (var loss in losses.Where(l => valid.Count > 0 && !valid.Contains(l)))
        {
            yield return ("objective.loss_type", $"'{loss}' is not a loss of {section.Type}; valid are {string.Join(", ", valid)}.{Spelling.DidYouMean(loss, valid)}");
        }

        if (losses.Count > 1 && section.Type != "dpo")
        {
            yield return ("objective.loss_type", $"the objective {section.Type} has one loss at a time; only dpo takes a list.");
        }

        if (section.Type == "dpo")
        {
            foreach (var problem in OfDpo(section, losses.Count == 0 ? ["sigmoid"] : losses))
            {
                yield return problem;
            }
        }

        if (section.Type == "classification" && (section.Labels.Count == 1 || section.Labels.Distinct().Count() < section.Labels.Count))
        {
            yield return ("objective.labels", section.Labels.Count == 1 ? "there is only one class; classification needs at least two." : "a class is named twice.");
        }

        if (section.ReferenceFree && (section.Reference != "start" || section.PrecomputeRefLogProbs || section.SyncRefModel))
        {
            yield return ("objective.reference_free", "a run without a reference has no use for reference, precompute_ref_log_probs or sync_ref_model; remove them, or reference_free.");
        }

        if (section is { SyncRefModel: true, Reference: not "start" })
        {
            yield return ("objective.sync_ref_model", $"a reference that follows the policy begins as the policy does; leave out reference: {section.Reference}, or sync_ref_model.");
        }

        if (section is { SyncRefModel: true, PrecomputeRefLogProbs: true })
        {
            yield return ("objective.precompute_ref_log_probs", "the log-probabilities of a reference that follows the policy change while training; leave out precompute_ref_log_probs, or sync_ref_model.");
        }

        if (section.Type == "distill" && string.IsNullOrEmpty(section.Teacher))
        {
            yield return ("objective.teacher", "distill needs a teacher: the folder, GGUF file or Hub name of the model to learn from.");
        }

        if (section.Type == "distill" && section.Beta > 1)
        {
            yield return ("objective.beta", $"{section.Beta} is no divergence; with distill it is 0 (forward) to 1 (reverse).");
        }

        if (section.Type == "cpo" && section.LabelSmoothing >= 0.5)
        {
            yield return ("objective.label_smoothing", $"{section.LabelSmoothing} means that at least half of the labels are wrong; it must be below 0.5.");
        }
    }

    /// <summary>Warnings of settings that have no effect.</summary>
    internal static IEnumerable<string> Warnings(ObjectiveSection section)
    {
        var losses = section.LossType?.Values ?? ["sigmoid"];
        if (section.Type == "dpo" && section.LabelSmoothing > 0 && !losses.Any(s_smoothed.Contains))
        {
            yield return $"objective.label_smoothing has no effect on {string.Join(", ", losses)}; the smoothed sigmoid of earlier TRL versions is loss_type: cdpo.";
        }

        if (section.Type == "cpo" && section.LabelSmoothing > 0 && losses[0] is "hinge" or "ipo")
        {
            yield return $"objective.label_smoothing has no effect on {losses[0]}.";
        }

        if (section is { Type: "distill", TeacherTopK: not null, NarrowTopK: true, Beta: not 0 })
        {
            yield return $"objective.teacher_top_k: with a beta of {section.Beta ?? 0.5} only {(section.Beta == 1 ? "the row's own token is" : "the teacher's most likely token and the row's own are")} compared, as in TRL; set beta: 0, or narrow_top_k: false for all {section.TeacherTopK}.";
        }

        if (section is { Type: "distill", SeqKd: true, Lmbda: >= 1 })
        {
            yield return "objective.seq_kd has no effect with lmbda: 1: every step trains on the student's own answers. Lower lmbda, or remove seq_kd.";
        }

        if (section is { SyncRefModel: true, Type: "grpo", Beta: null or 0 })
        {
            yield return "objective.sync_ref_model has no effect: grpo has no reference without a beta.";
        }

        if (section is { SyncRefModel: false } && (section.RefModelMixupAlpha != 0.6 || section.RefModelSyncSteps != 512))
        {
            yield return "objective.ref_model_mixup_alpha and ref_model_sync_steps have no effect without sync_ref_model: true.";
        }

        if (section is { Type: "distill", TeacherTopK: null } && !(section.AddTailBucket && section.NarrowTopK))
        {
            yield return "objective.add_tail_bucket and narrow_top_k have no effect without teacher_top_k.";
        }

        if (section.Type == "kto" && section is { DesirableWeight: 0, UndesirableWeight: 0 })
        {
            yield return "objective.desirable_weight and undesirable_weight are both 0, so that nothing is trained.";
        }
    }

    private static IEnumerable<(string Key, string Message)> OfDpo(ObjectiveSection section, IReadOnlyList<string> losses)
    {
        if (section.LossWeights.Count > 0 && section.LossWeights.Count != losses.Count)
        {
            yield return ("objective.loss_weights", $"there are {section.LossWeights.Count} weights for {losses.Count} {(losses.Count == 1 ? "loss" : "losses")} in loss_type; give one for each.");
        }

        if (losses.FirstOrDefault(l => section.FDivergenceType != "reverse_kl" && s_losses["dpo"].Contains(l) && !s_divergent.Contains(l)) is { } plain)
        {
            yield return ("objective.f_divergence_type", $"{plain} is defined for reverse_kl only; remove f_divergence_type, or choose another loss_type.");
        }

        if (losses.Contains("exo_pair") && section.LabelSmoothing == 0)
        {
            yield return ("objective.label_smoothing", "exo_pair needs a label_smoothing above 0; its paper recommends 0.001.");
        }

        if (section.LabelSmoothing >= 0.5)
        {
            yield return ("objective.label_smoothing", $"{section.LabelSmoothing} means that at least half of the labels are wrong; it must be below 0.5.");
        }

        if (section.UseWeighting && losses.FirstOrDefault(l => s_sorted.Contains(l) || l == "sft") is { } unweighted)
        {
            yield return ("objective.use_weighting", $"{unweighted} has no loss of each pair that could be weighted; remove use_weighting, or choose another loss_type.");
        }
    }

    private static bool Same(object? left, object? right) => (left, right) switch
    {
        (System.Collections.ICollection { Count: 0 }, System.Collections.ICollection { Count: 0 }) => true,
        (IReadOnlyList<double> a, IReadOnlyList<double> b) => a.SequenceEqual(b),
        (IReadOnlyList<string> a, IReadOnlyList<string> b) => a.SequenceEqual(b),
        _ => Equals(left, right),
    };
}
