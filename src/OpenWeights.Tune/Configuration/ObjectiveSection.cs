using OpenWeights.Tune.Extensions;

namespace OpenWeights.Tune.Configuration;

/// <summary>The objective section: what is trained, with TRL's names.</summary>
public sealed partial record ObjectiveSection
{
    /// <summary>Objective.</summary>
    [Setting("Objective: sft, the cross entropy of the trained tokens; dpo, orpo and cpo (with SimPO), which train on pairs of a chosen and a rejected answer; kto and bco, which train on answers with a label; reward, a reward model from pairs; classification, a classifier of texts; embedding, vectors for search; distill, which trains a student to predict what a teacher predicts; grpo and rloo, which train on answers that the model samples, by their rewards; or FILE.dll:CLASS, a class of your own.", OneOf = ["sft", "dpo", "orpo", "cpo", "kto", "bco", "reward", "classification", "embedding", "distill", "grpo", "rloo"], OrOwnClass = true)]
    public string Type { get => Custom is { } own ? OwnClass.NameOf(own) : field; init; } = "sft";

    /// <summary>An objective of your own, in the place of <see cref="Type"/>; null for none.</summary>
    public TrainingObjective? Custom { get; init; }

    /// <summary>Variants of the loss.</summary>
    [Setting("Variant of the loss, or a list of them whose weighted sum is trained. sft: nll (default) or dft. dpo: sigmoid (default), cdpo, hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, apo_down, discopop, sigmoid_norm and sft. cpo: sigmoid (default), hinge, ipo, simpo or alphapo. kto: kto (default) or apo_zero_unpaired. grpo: dapo (default), grpo, bnpo, dr_grpo, cispo, sapo, luspo or vespo.")]
    [UsedBy("sft", "dpo", "cpo", "kto", "grpo")]
    public TextOrList? LossType { get; init; }

    /// <summary>Weights of the variants.</summary>
    [Setting("dpo: weights of the losses in loss_type; 1 for each unless given.", Min = 0)]
    [UsedBy("dpo")]
    public IReadOnlyList<double> LossWeights { get; init; } = [];

    /// <summary>Strength of the deviation from the reference.</summary>
    [Setting("How strongly the policy is kept near the reference (dpo, kto, bco), or the scale of rewards (cpo); for orpo the weight of the odds ratio; 0.1 unless given, SimPO uses 2 to 2.5. distill: 0 for the forward divergence KL(teacher || student), 1 for the reverse one, between them the generalised Jensen-Shannon divergence; 0.5 unless given. grpo and rloo: weight of the divergence from the reference; 0 for grpo, which then needs none, and 0.05 for rloo, unless given.", Min = 0)]
    [UsedBy("dpo", "orpo", "cpo", "kto", "bco", "distill", "grpo", "rloo")]
    public double? Beta { get; init; }

    /// <summary>Label smoothing.</summary>
    [Setting("sft: the fraction of each target's probability spread evenly over the vocabulary. dpo and cpo: the probability that a label is wrong, below 0.5; dpo uses it in cdpo, exo_pair, robust, aot and aot_unpaired. classification: the fraction of a class's probability spread evenly over all classes.", Min = 0, Max = 0.999)]
    [UsedBy("sft", "dpo", "cpo", "classification")]
    public double LabelSmoothing { get; init; }

    /// <summary>Weight of the z-loss.</summary>
    [Setting("sft: weight of the z-loss, the squared log of the softmax denominator, which keeps logits small; 1e-4 is usual.", Min = 0)]
    [UsedBy("sft")]
    public double ZLoss { get; init; }

    /// <summary>The reference.</summary>
    [Setting("What the policy is compared with: start, the model as training begins; base, the model without its adapter; or the folder of a model.", IsPath = true)]
    [UsedBy("dpo", "kto", "bco", "grpo", "rloo")]
    public string Reference { get; init; } = "start";

    /// <summary>Whether there is no reference.</summary>
    [Setting("dpo: train without a reference, as if it had a log-probability of 0 for every answer.")]
    [UsedBy("dpo")]
    public bool ReferenceFree { get; init; }

    /// <summary>Whether the reference's log-probabilities are computed before.</summary>
    [Setting("Compute the reference's log-probabilities of all rows once, before training, and keep them on disk for later runs; the reference is then not in memory while training.")]
    [UsedBy("dpo", "kto", "bco")]
    public bool PrecomputeRefLogProbs { get; init; }

    /// <summary>Whether the reference follows the policy.</summary>
    [Setting("Let the reference follow the policy (TR-DPO): every ref_model_sync_steps steps it becomes a mixture of both. It begins at the start; with an adapter it is an adapter too.")]
    [UsedBy("dpo", "kto", "bco", "grpo", "rloo")]
    public bool SyncRefModel { get; init; }

    /// <summary>Share of the policy.</summary>
    [Setting("sync_ref_model: share of the policy in the mixture.", Min = 0, Max = 1)]
    [UsedBy("dpo", "kto", "bco", "grpo", "rloo")]
    public double RefModelMixupAlpha { get; init; } = 0.6;

    /// <summary>Steps between mixtures.</summary>
    [Setting("sync_ref_model: steps between two mixtures.", Min = 1)]
    [UsedBy("dpo", "kto", "bco", "grpo", "rloo")]
    public long RefModelSyncSteps { get; init; } = 512;

    /// <summary>Divergence from the reference.</summary>
    [Setting("dpo: the f-divergence that turns log-ratios into scores.", OneOf = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"])]
    [UsedBy("dpo")]
    public string FDivergenceType { get; init; } = "reverse_kl";

    /// <summary>Exponent of the alpha divergence.</summary>
    [Setting("dpo: alpha of f_divergence_type alpha_divergence.")]
    [UsedBy("dpo")]
    public double FAlphaDivergenceCoef { get; init; } = 0.5;

    /// <summary>Temperature of DiscoPOP.</summary>
    [Setting("dpo: temperature of the modulation of discopop.", Min = 1e-6)]
    [UsedBy("dpo")]
    public double DiscopopTau { get; init; } = 0.05;

    /// <summary>Weight of tokens beyond the shorter answer.</summary>
    [Setting("dpo: weight of the tokens beyond the length of the pair's shorter answer (LD-DPO), which makes long answers less attractive; 1 unless given.", Min = 0, Max = 1)]
    [UsedBy("dpo")]
    public double? LdAlpha { get; init; }

    /// <summary>Whether pairs are weighted by their probability.</summary>
    [Setting("dpo: weight pairs by the policy's probability of their answers (WPO).")]
    [UsedBy("dpo")]
    public bool UseWeighting { get; init; }

    /// <summary>Weight of the likelihood of chosen answers.</summary>
    [Setting("cpo: weight of the chosen answers' cross entropy; 0 for SimPO proper.", Min = 0)]
    [UsedBy("cpo")]
    public double CpoAlpha { get; init; } = 1;

    /// <summary>Margin of SimPO.</summary>
    [Setting("cpo: target margin of the rewards in simpo and alphapo.", Min = 0)]
    [UsedBy("cpo")]
    public double SimpoGamma { get; init; } = 0.5;

    /// <summary>Exponent of AlphaPO.</summary>
    [Setting("cpo: alpha of AlphaPO's rewards (1 - exp(-alpha log p)) / alpha; 0 for log p.")]
    [UsedBy("cpo")]
    public double Alpha { get; init; }

    /// <summary>Weight of desirable answers.</summary>
    [Setting("kto: weight of desirable answers. With the numbers of both kinds, desirable_weight x desirable should be 1 to 4/3 times undesirable_weight x undesirable.", Min = 0)]
    [UsedBy("kto")]
    public double DesirableWeight { get; init; } = 1;

    /// <summary>Weight of undesirable answers.</summary>
    [Setting("kto: weight of undesirable answers.", Min = 0)]
    [UsedBy("kto")]
    public double UndesirableWeight { get; init; } = 1;

    /// <summary>Weight of the term that keeps rewards near zero.</summary>
    [Setting("reward: weight of the squared sum of a pair's rewards, which keeps rewards near zero; 0.01 is usual, none unless given.", Min = 0)]
    [UsedBy("reward")]
    public double? CenterRewardsCoefficient { get; init; }

    /// <summary>Names of the classes.</summary>
    [Setting("classification: names of the classes in order; left out, those of the model or of the data. Rows name a class by its name or its number.")]
    [UsedBy("classification")]
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>Pooling.</summary>
    [Setting("embedding: which hidden states become a text's vector: that of the last token, or the mean over all; last unless the model's files say otherwise.", OneOf = ["last", "mean"])]
    [UsedBy("embedding")]
    public string? Pooling { get; init; }

    /// <summary>Direction of attention.</summary>
    [Setting("embedding: causal, or bidirectional, where tokens attend to later ones too (with pooling mean); causal unless the model's files say otherwise.", OneOf = ["causal", "bidirectional"])]
    [UsedBy("embedding")]
    public string? Attention { get; init; }

    /// <summary>Prompt of queries.</summary>
    [Setting("embedding: text ahead of each anchor, such as \"query: \"; saved with the model.")]
    [UsedBy("embedding")]
    public string? QueryPrompt { get; init; }

    /// <summary>Prompt of documents.</summary>
    [Setting("embedding: text ahead of each positive and negative; saved with the model.")]
    [UsedBy("embedding")]
    public string? DocumentPrompt { get; init; }
}

/// <summary>The objectives that use a setting of the objective section.</summary>
/// <param name="types">Their names.</param>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class UsedByAttribute(params string[] types) : Attribute
{
    /// <summary>Their names.</summary>
    internal IReadOnlyList<string> Types { get; } = types;
}
