using OpenWeights.Tune.Objectives.Stored;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>
/// The divergence of a student from the teacher's most likely tokens, as TRL's distillation from a server: on a few tokens of the vocabulary (the
/// support), with one more for all others (the tail), or without, where both are normalised over the support.
/// </summary>
internal static class TopDivergence
{
    // The smallest normal float32; and what the probability of the support stays below.
    private const double Tiny = 1.17549435e-38;
    private const double LargestLog = -1e-7;

    /// <summary>The tokens that are compared, and the teacher's log-probabilities of them.</summary>
    /// <param name="teacher">The teacher's predictions of the targets.</param>
    /// <param name="targets">The targets, [targets].</param>
    /// <param name="settings">The settings.</param>
    /// <returns>Ids, [targets, support], log-probabilities, and true where an entry repeats another and does not count.</returns>
    internal static (Tensor Ids, Tensor LogProbs, Tensor Repeats) Support(StoredTargets teacher, Tensor targets, DistillationSettings settings)
    {
        using var scope = NewDisposeScope();
        var top = (settings.Beta, settings.IsNarrow) switch
        {
            (1, true) => 0,
            ( > 0, true) => 1,
            _ => teacher.TopIds.size(1),
        };
        var (ids, own) = (teacher.TopIds.narrow(1, 0, top), targets.unsqueeze(1));
        var repeats = top == 0 ? own.ne(own) : ids.eq(own).any(1, keepdim: true);
        return (
            cat([ids, own], 1).MoveToOuterDisposeScope(),
            cat([teacher.TopLogProbs.narrow(1, 0, top), teacher.LogProbs.unsqueeze(1)], 1).MoveToOuterDisposeScope(),
            cat([ids.ne(ids), repeats], 1).MoveToOuterDisposeScope());
    }

    /// <summary>The divergence of each target, [targets].</summary>
    /// <param name="logits">The student's logits, [targets, vocabulary].</param>
    /// <param name="support">What <see cref="Support"/> returned for these targets.</param>
    /// <param name="settings">The settings.</param>
    internal static Tensor Of(Tensor logits, (Tensor Ids, Tensor LogProbs, Tensor Repeats) support, DistillationSettings settings)
    {
        using var scope = NewDisposeScope();
        using Scalar inverse = 1 / settings.Temperature;
        using Scalar zero = 0;
        var scaled = settings.Temperature == 1 ? logits : logits.mul(inverse);
        var own = scaled.gather(1, support.Ids).sub(scaled.logsumexp(1, keepdim: true));
        var (student, teacher) = (Shaped(own, support.Repeats, settings.AddsTail), Shaped(support.LogProbs, support.Repeats, settings.AddsTail));
        var (s, t) = (student.exp(), teacher.exp());

        // Minus infinity, which entries that do not count have, times a probability of 0 is not a number.
        var gone = settings.AddsTail ? cat([support.Repeats, support.Repeats.narrow(1, 0, 1).ne(support.Repeats.narrow(1, 0, 1))], 1) : support.Repeats;
        (student, teacher) = (student.masked_fill(gone, zero), teacher.masked_fill(gone, zero));
        return Terms(student, teacher, s, t, settings.Beta).sum([1L]).MoveToOuterDisposeScope();
    }

    private static Tensor Terms(Tensor student, Tensor teacher, Tensor s, Tensor t, double beta)
    {
        if (beta is 0 or 1)
        {
            return beta == 0 ? t.mul(teacher.sub(student)) : s.mul(student.sub(teacher));
        }

        using Scalar ofTeacher = beta;
        using Scalar ofStudent = 1 - beta;
        using Scalar tiny = Tiny;
        var mixture = t.mul(ofTeacher).add(s.mul(ofStudent)).clamp_min(tiny).log();
        return t.mul(teacher.sub(mixture)).mul(ofTeacher).add(s.mul(student.sub(mixture)).mul(ofStudent));
    }

    // Log-probabilities of the support and its tail, or normalised over the support.
    private static Tensor Shaped(Tensor logProbs, Tensor repeats, bool addsTail)
    {
        using Scalar never = double.NegativeInfinity;
        using Scalar largest = LargestLog;
        var kept = logProbs.masked_fill(repeats, never);
        var all = kept.logsumexp(1, keepdim: true);
        return addsTail ? cat([kept, all.clamp(max: largest).expm1().neg().log()], 1) : kept.sub(all);
    }
}
