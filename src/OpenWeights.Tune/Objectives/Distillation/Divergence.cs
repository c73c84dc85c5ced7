using OpenWeights.Tune.Torch;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.autograd;

namespace OpenWeights.Tune.Objectives.Distillation;

/// <summary>
/// The generalised Jensen-Shannon divergence of a student from a teacher over the whole vocabulary (Agarwal et al., 2024, as TRL's
/// generalized_jsd_loss): with teacher T, student S and the mixture M = beta T + (1 - beta) S it is beta KL(T || M) + (1 - beta) KL(S || M); for
/// beta 0 KL(T || S), for beta 1 KL(S || T). The gradient is in closed form, so that autograd keeps no other [tokens, vocabulary].
/// </summary>
internal sealed class Divergence : CustomFunction<Divergence>
{
    // The smallest normal float32.
    private const double Tiny = 1.17549435e-38;

    /// <summary>The divergence of each token, [tokens].</summary>
    /// <param name="student">The student's logits, [tokens, vocabulary], float32.</param>
    /// <param name="teacher">The teacher's logits, [tokens, vocabulary], float32, without a graph.</param>
    /// <param name="beta">Weight of the teacher in the mixture.</param>
    /// <param name="temperature">Divides both logits.</param>
    internal static Tensor Of(Tensor student, Tensor teacher, double beta, double temperature) => Record(student, teacher, beta, temperature)[0];

    protected override List<Tensor> Forward(AutogradContext context, object[] inputs)
    {
        var (student, beta, temperature) = ((Tensor)inputs[0], (double)inputs[2], (double)inputs[3]);
        var (s, t) = (LogSoftmax(student, temperature), LogSoftmax((Tensor)inputs[1], temperature));
        using Scalar scale = (beta is > 0 and < 1 ? 1 - beta : 1) / temperature;
        var (value, gradient) = beta switch
        {
            0 => Forward(s, t),
            1 => Reverse(s, t),
            _ => Mixed(s, t, beta),
        };
        context.save_for_backward([student.requires_grad ? gradient.mul_(scale) : null!]);
        return [value];
    }

    protected override IReadOnlyList<Tensor?> Backward(AutogradContext context, IReadOnlyList<Tensor> gradients) =>
        [context.get_saved_variables()[0]!.mul_(gradients[0].unsqueeze(1)), null, null, null];

    private static Tensor LogSoftmax(Tensor logits, double temperature)
    {
        using Scalar inverse = 1 / temperature;
        var scaled = logits.detach().mul(inverse);
        return scaled.sub_(scaled.logsumexp(1, keepdim: true));
    }

    // sum of T (t - s); its derivative by the logits is S - T. Arguments are overwritten.
    private static (Tensor Value, Tensor Gradient) Forward(Tensor s, Tensor t)
    {
        var teacher = t.exp();
        var value = t.sub_(s).mul_(teacher).sum([1L]);
        return (value, s.exp_().sub_(teacher));
    }

    // sum of S (s - t) = d; its derivative by the logits is S (s - t - d).
    private static (Tensor Value, Tensor Gradient) Reverse(Tensor s, Tensor t)
    {
        var student = s.exp();
        var difference = s.sub_(t);
        var value = difference.mul(student).sum([1L]);
        return (value, difference.sub_(value.unsqueeze(1)).mul_(student));
    }

    // With d = sum of S (s - m), m = log M, the derivative by the logits is (1 - beta) S (s - m - d): what depends on M cancels.
    private static (Tensor Value, Tensor Gradient) Mixed(Tensor s, Tensor t, double beta)
    {
        using Scalar ofTeacher = beta;
        using Scalar ofStudent = 1 - beta;
        using Scalar tiny = Tiny;
        var (student, teacher) = (s.exp(), t.exp());
        var mixture = teacher.mul(ofTeacher).add_(student, ofStudent).clamp_(min: tiny).log_();
        var toTeacher = t.sub_(mixture).mul_(teacher).sum([1L]);
        var difference = s.sub_(mixture);
        var toStudent = difference.mul(student).sum([1L]);
        return (toTeacher.mul(ofTeacher).add(toStudent.mul(ofStudent)), difference.sub_(toStudent.unsqueeze(1)).mul_(student));
    }
}
