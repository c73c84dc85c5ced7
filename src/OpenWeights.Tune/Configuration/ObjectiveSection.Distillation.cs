namespace OpenWeights.Tune.Configuration;

/// <content>Settings of distillation.</content>
public sealed partial record ObjectiveSection
{
    /// <summary>The teacher.</summary>
    [Setting("distill: the model to learn from, with the student's vocabulary: a folder, a run that trained an adapter, a GGUF file, or a name on the Hub. Its weights may be quantized.", IsPath = true)]
    [UsedBy("distill")]
    public string? Teacher { get; init; }

    /// <summary>Quantization of the teacher.</summary>
    [Setting("distill: quantizes the teacher's weights as they are loaded, for less memory.", OneOf = ["none", "nf4", "int8"])]
    [UsedBy("distill")]
    public string TeacherQuantization { get; init; } = "none";

    /// <summary>Number of the teacher's most likely tokens.</summary>
    [Setting("distill: number of the teacher's most likely tokens that are compared; their log-probabilities are computed once and kept on disk, so that the teacher is not in memory while training. The whole vocabulary unless given.", Min = 1, Max = 65536)]
    [UsedBy("distill")]
    public int? TeacherTopK { get; init; }

    /// <summary>Whether the other tokens count.</summary>
    [Setting("distill: with teacher_top_k, whether all other tokens count as one more; if not, probabilities are normalised over the compared ones.")]
    [UsedBy("distill")]
    public bool AddTailBucket { get; init; } = true;

    /// <summary>Whether only one or two tokens are compared.</summary>
    [Setting("distill: with teacher_top_k and a beta above 0, whether only the teacher's most likely token (with a beta below 1) and the row's own are compared, as in TRL; if not, all teacher_top_k.")]
    [UsedBy("distill")]
    public bool NarrowTopK { get; init; } = true;

    /// <summary>Share of steps on the student's own samples.</summary>
    [Setting("distill: share of the steps that train on answers sampled from the student, in the place of the rows' own (on-policy distillation; GKD's lambda): 0 for none, 1 for all.", Min = 0, Max = 1)]
    [UsedBy("distill")]
    public double Lmbda { get; init; }

    /// <summary>Whether the teacher answers the rows' prompts.</summary>
    [Setting("distill: whether the teacher samples an answer to each row's prompt once, before training, which takes the place of the row's own (sequence-level distillation; GKD's seq_kd). The answers are kept on disk.")]
    [UsedBy("distill")]
    public bool SeqKd { get; init; }

    /// <summary>Temperature of the sampled answers.</summary>
    [Setting("distill: temperature at which the student's answers (lmbda) and the teacher's (seq_kd) are sampled.", Min = 0)]
    [UsedBy("distill")]
    public double SamplingTemperature { get; init; } = 1;
}
