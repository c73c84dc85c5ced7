namespace OpenWeights.Tune.Configuration;

/// <content>Settings of objectives that train on sampled answers, with TRL's names and defaults.</content>
public sealed partial record ObjectiveSection
{
    /// <summary>File of recorded samples.</summary>
    [Setting("grpo and rloo: file of answers sampled before, with their rewards, such as the samples.jsonl of a run; data.train is then left out. Without it, answers to the prompts of data.train are sampled while training.", IsPath = true)]
    [UsedBy("grpo", "rloo")]
    public string? Samples { get; init; }

    /// <summary>The rewards.</summary>
    [Setting("grpo and rloo: what sampled answers are judged by; several are added with their weights.")]
    [UsedBy("grpo", "rloo")]
    public IReadOnlyList<RewardSection> Rewards { get; init; } = [];

    /// <summary>Weights of the rewards.</summary>
    [Setting("grpo and rloo: weights of the rewards, in the order of rewards, or of the names in the first recorded row; 1 for each unless given.")]
    [UsedBy("grpo", "rloo")]
    public IReadOnlyList<double> RewardWeights { get; init; } = [];

    /// <summary>Answers per prompt.</summary>
    [Setting("grpo and rloo: answers sampled for each prompt, which are compared with each other; 8 for grpo and 2 for rloo unless given.", Min = 2)]
    [UsedBy("grpo", "rloo")]
    public int? NumGenerations { get; init; }

    /// <summary>Answers per prompt of an evaluation.</summary>
    [Setting("grpo and rloo: answers sampled for each prompt of an evaluation; num_generations unless given.", Min = 1)]
    [UsedBy("grpo", "rloo")]
    public int? NumGenerationsEval { get; init; }

    /// <summary>Maximum length of an answer.</summary>
    [Setting("grpo, rloo and distill: maximum number of tokens of a sampled answer.", Min = 1)]
    [UsedBy("distill", "grpo", "rloo")]
    public int MaxCompletionLength { get; init; } = 512;

    /// <summary>Temperature.</summary>
    [Setting("grpo and rloo: temperature of the sampling; log-probabilities in the loss are of logits divided by it. distill: divides the logits of teacher and student in the loss. embedding: divides the cosine similarities in the loss; lower pays more attention to the most similar negatives. 1 unless given, 0.05 with embedding.", Min = 1e-6)]
    [UsedBy("distill", "embedding", "grpo", "rloo")]
    public double? Temperature { get; init; }

    /// <summary>Nucleus sampling.</summary>
    [Setting("grpo and rloo: sample from the smallest set of tokens with at least this total probability; 1 for all.", Min = 1e-6, Max = 1)]
    [UsedBy("grpo", "rloo")]
    public double TopP { get; init; } = 1;

    /// <summary>Top-k sampling.</summary>
    [Setting("grpo and rloo: sample from this many of the most likely tokens; 0 for all.", Min = 0)]
    [UsedBy("grpo", "rloo")]
    public int TopK { get; init; }

    /// <summary>Min-p sampling.</summary>
    [Setting("grpo and rloo: sample from tokens at least this fraction as likely as the most likely one; 0 for all.", Min = 0, Max = 1)]
    [UsedBy("grpo", "rloo")]
    public double? MinP { get; init; }

    /// <summary>Repetition penalty.</summary>
    [Setting("grpo and rloo: logits of tokens that occurred before are divided by it while sampling; 1 for none.", Min = 1e-6)]
    [UsedBy("grpo", "rloo")]
    public double RepetitionPenalty { get; init; } = 1;

    /// <summary>Further tokens that end an answer.</summary>
    [Setting("grpo and rloo: ids of tokens that end an answer, besides the model's end tokens.", Min = 0)]
    [UsedBy("grpo", "rloo")]
    public IReadOnlyList<int> StopTokenIds { get; init; } = [];

    /// <summary>Micro-batches sampled together.</summary>
    [Setting("grpo and rloo: micro-batches whose answers are sampled together, a multiple of training.gradient_accumulation_steps, which it is unless given.", Min = 1)]
    [UsedBy("grpo", "rloo")]
    public int? StepsPerGeneration { get; init; }

    /// <summary>Passes over sampled answers.</summary>
    [Setting("grpo and rloo: how many times sampled answers are trained on before new ones are sampled.", Min = 1)]
    [UsedBy("grpo", "rloo")]
    public int NumIterations { get; init; } = 1;

    /// <summary>Lower clipping border.</summary>
    [Setting("grpo and rloo: the ratio of new to old probability is clipped at 1 - epsilon.", Min = 0)]
    [UsedBy("grpo", "rloo")]
    public double Epsilon { get; init; } = 0.2;

    /// <summary>Upper clipping border.</summary>
    [Setting("grpo and rloo: the ratio is clipped at 1 + epsilon_high; epsilon unless given (DAPO: 0.28). cispo clips at epsilon_high itself (about 5).", Min = 0)]
    [UsedBy("grpo", "rloo")]
    public double? EpsilonHigh { get; init; }

    /// <summary>Upper border of the unclipped ratio.</summary>
    [Setting("grpo: largest ratio where clipping does not apply (two-sided clipping); none unless given.", Min = 0)]
    [UsedBy("grpo")]
    public double? Delta { get; init; }

    /// <summary>Whether ratios are of tokens or of whole answers.</summary>
    [Setting("grpo: ratios of each token, or one of each answer, the exponential of its mean log-ratio (GSPO).", OneOf = ["token", "sequence"])]
    [UsedBy("grpo")]
    public string ImportanceSamplingLevel { get; init; } = "token";

    /// <summary>How advantages are scaled.</summary>
    [Setting("grpo: advantages are divided by the rewards' standard deviation in the group, in the batch, or not.", OneOf = ["group", "batch", "none"])]
    [UsedBy("grpo")]
    public string ScaleRewards { get; init; } = "group";

    /// <summary>How several rewards are combined.</summary>
    [Setting("grpo: several rewards are added and then normalised, or each is normalised first (GDPO).", OneOf = ["sum_then_normalize", "normalize_then_sum"])]
    [UsedBy("grpo")]
    public string MultiObjectiveAggregation { get; init; } = "sum_then_normalize";

    /// <summary>Whether answers that were cut off are left out.</summary>
    [Setting("grpo and rloo: do not train on answers that reached max_completion_length; their rewards still count in the group's mean.")]
    [UsedBy("grpo", "rloo")]
    public bool MaskTruncatedCompletions { get; init; }

    /// <summary>Fraction of tokens that are trained.</summary>
    [Setting("grpo: train only on this fraction of the tokens, those with the highest entropy; 0.2 is usual, 1 for all.", Min = 0, Max = 1)]
    [UsedBy("grpo")]
    public double TopEntropyQuantile { get; init; } = 1;

    /// <summary>Weight of the entropy.</summary>
    [Setting("grpo: weight of the mean entropy of tokens, which is made larger; 0 for none.", Min = 0)]
    [UsedBy("grpo")]
    public double EntropyCoef { get; init; }

    /// <summary>Whether the weight of the entropy follows a target.</summary>
    [Setting("grpo: raise entropy_coef by entropy_coef_delta after a step whose entropy is at most entropy_target, and lower it after others; it applies where the entropy is at most the target.")]
    [UsedBy("grpo")]
    public bool UseAdaptiveEntropy { get; init; }

    /// <summary>Smallest weight of the entropy.</summary>
    [Setting("grpo: smallest entropy_coef of use_adaptive_entropy.", Min = 0)]
    [UsedBy("grpo")]
    public double EntropyCoefMin { get; init; }

    /// <summary>Largest weight of the entropy.</summary>
    [Setting("grpo: largest entropy_coef of use_adaptive_entropy.", Min = 0)]
    [UsedBy("grpo")]
    public double EntropyCoefMax { get; init; } = 1;

    /// <summary>Change of the weight of the entropy.</summary>
    [Setting("grpo: change of entropy_coef after a step, with use_adaptive_entropy.", Min = 0)]
    [UsedBy("grpo")]
    public double EntropyCoefDelta { get; init; } = 0.005;

    /// <summary>Wanted entropy.</summary>
    [Setting("grpo: mean entropy of tokens that use_adaptive_entropy aims at.", Min = 0)]
    [UsedBy("grpo")]
    public double EntropyTarget { get; init; } = 0.2;

    /// <summary>From which divergence on bad answers are left out.</summary>
    [Setting("grpo: leave out answers with a negative advantage whose mean log-ratio of old to new probability exceeds this; none unless given.", Min = 0)]
    [UsedBy("grpo")]
    public double? OffPolicyMaskThreshold { get; init; }

    /// <summary>Whether the divergence is corrected by the ratio.</summary>
    [Setting("grpo: multiply the divergence from the reference by the ratio of new to old probability.")]
    [UsedBy("grpo")]
    public bool UseBiasCorrectionKl { get; init; } = true;

    /// <summary>Temperature of SAPO for good answers.</summary>
    [Setting("grpo: temperature of sapo for answers with a positive advantage.", Min = 1e-6)]
    [UsedBy("grpo")]
    public double SapoTemperaturePos { get; init; } = 1;

    /// <summary>Temperature of SAPO for bad answers.</summary>
    [Setting("grpo: temperature of sapo for other answers.", Min = 1e-6)]
    [UsedBy("grpo")]
    public double SapoTemperatureNeg { get; init; } = 1.05;

    /// <summary>Exponent of VESPO for good answers.</summary>
    [Setting("grpo: k of vespo for advantages that are not negative.", Min = 0)]
    [UsedBy("grpo")]
    public double VespoKPos { get; init; } = 2;

    /// <summary>Decay of VESPO for good answers.</summary>
    [Setting("grpo: lambda of vespo for advantages that are not negative.", Min = 0)]
    [UsedBy("grpo")]
    public double VespoLambdaPos { get; init; } = 3;

    /// <summary>Exponent of VESPO for bad answers.</summary>
    [Setting("grpo: k of vespo for negative advantages.", Min = 0)]
    [UsedBy("grpo")]
    public double VespoKNeg { get; init; } = 3;

    /// <summary>Decay of VESPO for bad answers.</summary>
    [Setting("grpo: lambda of vespo for negative advantages.", Min = 0)]
    [UsedBy("grpo")]
    public double VespoLambdaNeg { get; init; } = 2;

    /// <summary>Whether advantages are normalised over the batch.</summary>
    [Setting("rloo: normalise the advantages over the batch.")]
    [UsedBy("rloo")]
    public bool NormalizeAdvantages { get; init; }

    /// <summary>Limits of rewards.</summary>
    [Setting("rloo: smallest and largest reward; others are set to these. None unless given.")]
    [UsedBy("rloo")]
    public IReadOnlyList<double> RewardClipRange { get; init; } = [];

    /// <summary>Weight of the divergence from the reference of an objective that samples answers.</summary>
    internal double DivergenceWeight => Beta ?? (Type == "rloo" ? 0.05 : 0);

    /// <summary>Answers per prompt.</summary>
    internal int Generations => NumGenerations ?? (Type == "rloo" ? 2 : 8);

    /// <summary>Micro-batches whose answers are sampled together.</summary>
    /// <param name="training">The training section.</param>
    internal int MicroBatchesTogether(TrainingSection training) => Math.Max(StepsPerGeneration ?? 1, training?.GradientAccumulationSteps ?? 1);
}
