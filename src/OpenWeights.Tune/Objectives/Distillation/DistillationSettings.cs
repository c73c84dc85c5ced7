using OpenWeights.Tune.Configuration;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>Settings of distillation, with TRL's names.</summary>
internal sealed record DistillationSettings
{
    /// <summary>beta: 0 is the forward divergence KL(teacher || student), 1 the reverse one, between them the generalised Jensen-Shannon divergence.</summary>
    internal double Beta { get; init; } = 0.5;

    /// <summary>temperature: divides the logits of both.</summary>
    internal double Temperature { get; init; } = 1;

    /// <summary>teacher_top_k: number of the teacher's most likely tokens that are compared; 0 for the whole vocabulary.</summary>
    internal int Top { get; init; }

    /// <summary>add_tail_bucket: whether all tokens beside the compared ones count as one more.</summary>
    internal bool AddsTail { get; init; } = true;

    /// <summary>narrow_top_k: above a beta of 0 only the teacher's most likely token (below 1) and the row's own are compared, as in TRL.</summary>
    internal bool IsNarrow { get; init; } = true;

    /// <summary>The settings of a config's section.</summary>
    internal static DistillationSettings Of(ObjectiveSection section) => new()
    {
        Beta = section.Beta ?? 0.5,
        Temperature = section.Temperature ?? 1,
        Top = section.TeacherTopK ?? 0,
        AddsTail = section.AddTailBucket,
        IsNarrow = section.NarrowTopK,
    };
}
