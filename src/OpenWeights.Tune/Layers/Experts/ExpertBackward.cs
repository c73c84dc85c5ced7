using OpenWeights.Tune.Kernels;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Experts;

/// <summary>Gradients of <see cref="ExpertProduct"/>, collected expert by expert.</summary>
internal sealed class ExpertBackward
{
    private readonly StackedExperts _experts;
    private readonly ExpertPlan _plan;
    private readonly bool _scalesInput;
    private readonly Tensor _states;
    private readonly Tensor _ordered;
    private readonly Tensor _gradient;
    private readonly Tensor? _ofStates;
    private readonly Tensor? _ofWeights;
    private readonly MatrixGradients _first;
    private readonly MatrixGradients _down;

    /// <summary>Begins a backward pass, in the current dispose scope.</summary>
    /// <param name="experts">The experts.</param>
    /// <param name="plan">Which rows each expert processed.</param>
    /// <param name="scalesInput">Whether the weights multiplied the inputs.</param>
    /// <param name="inputs">States and weights.</param>
    /// <param name="gradient">Gradient of the output, [tokens, hidden].</param>
    /// <param name="wanted">Which inputs of the function need gradients.</param>
    internal ExpertBackward(StackedExperts experts, ExpertPlan plan, bool scalesInput, (Tensor States, Tensor Weights) inputs, Tensor gradient, bool[] wanted)
    {
        (_experts, _plan, _scalesInput, _states, _gradient) = (experts, plan, scalesInput, inputs.States, gradient);
        _ordered = inputs.Weights.reshape(-1).index_select(0, plan.Order).unsqueeze(1);
        var selections = plan.Places.numel();
        _ofStates = wanted[0] || scalesInput ? empty([selections, _states.size(1)], _states.dtype, _states.device) : null;
        _ofWeights = wanted[1] ? empty([selections], float32, _states.device) : null;
        _first = new MatrixGradients(experts.First);
        _down = new MatrixGradients(experts.Down);
        WantsStates = wanted[0];
    }

    private bool WantsStates { get; }

    /// <summary>Adds what an expert's rows contribute.</summary>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="start">First of its selections.</param>
    /// <param name="count">Number of its selections.</param>
    /// <param name="first">Output of its first product for <see cref="ExpertPlan.Rows"/>, [rows, features]: rows behind the selections have no gradient.</param>
    internal void Add(int expert, long start, long count, Tensor first)
    {
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        var weight = _ordered.narrow(0, start, first.size(0));
        var given = _plan.Rows(_gradient, start, count);
        var settings = _experts.Settings;
        var active = _down.IsWanted || (_ofWeights is not null && !ExpertActivation.IsGated(settings)) ? ExpertActivation.Of(settings, first) : null;
        var ofActive = _experts.Down.InputGradient(expert, given);
        var ofFirst = ExpertActivation.Backward(settings, first, ofActive);
        if (!_scalesInput)
        {
            if (_ofWeights is not null)
            {
                // The sum of gradient x output is that of the activation's gradient x activation, so the output need not be stored.
                var share = active is null ? ExpertActivation.UpShare(settings, first, ofFirst) : ofActive.Widened().mul(active).sum(-1);
                var bias = _experts.Down.Bias?.detach().select(0, expert).Widened();
                _ = _ofWeights.narrow(0, start, count).copy_((bias is null ? share : share.PlusInPlace(given.Widened().matmul(bias))).narrow(0, 0, count));
            }

            ofFirst = ofFirst.mul_(weight);
            given = _down.IsWanted ? given.mul_(weight) : given;
        }

        if (active is not null && _down.IsWanted)
        {
            _down.Add(expert, given, active);
        }

        var rows = _first.NeedsInput || _scalesInput ? _plan.Rows(_states, start, count) : null;
        _first.Add(expert, ofFirst, _scalesInput ? rows!.mul(weight) : rows);
        if (_ofStates is null)
        {
            return;
        }

        var ofRows = _experts.First.InputGradient(expert, ofFirst);
        if (_scalesInput)
        {
            _ = _ofWeights?.narrow(0, start, count).copy_(ofRows.Widened().mul(rows!).sum(-1).narrow(0, 0, count));
            ofRows = ofRows.mul_(weight);
        }

        _ = _ofStates.narrow(0, start, count).copy_(ofRows.narrow(0, 0, count));
    }

    /// <summary>The gradient of each input of the function; null where there is none.</summary>
    internal IReadOnlyList<Tensor?> Gradients()
    {
        var weights = _ofWeights?.index_select(0, _plan.Places).view(-1, _plan.PerToken).to(_ordered.dtype);
        return [WantsStates ? _plan.Gather(_ofStates!) : null, weights, null, .. _first.All, .. _down.All];
    }
}

/// <summary>Gradients of the parameters of one matrix of every expert.</summary>
internal sealed class MatrixGradients
{
    private readonly ExpertMatrix _matrix;
    private readonly Tensor? _weight;
    private readonly Tensor? _bias;
    private readonly bool _isInParameter;
    private readonly (Tensor? A, Tensor? B)[] _updates;

    /// <summary>Begins with zeros, in the current dispose scope: experts without rows have zero gradients, as in the reference.</summary>
    /// <param name="matrix">The matrix.</param>
    internal MatrixGradients(ExpertMatrix matrix)
    {
        _matrix = matrix;
        if (matrix.Weight is { requires_grad: true } weight)
        {
            (_weight, _isInParameter) = Sum(weight);
        }

        _bias = matrix.Bias is { requires_grad: true } bias ? zeros(bias.shape, bias.dtype, bias.device) : null;
        static Tensor? Zeros(Tensor parameter) => parameter.requires_grad ? zeros(parameter.shape, float32, parameter.device) : null;
        _updates = [.. matrix.Updates.Select(static u => (Zeros(u.A), Zeros(u.B)))];
    }

    /// <summary>Whether any gradient is wanted.</summary>
    internal bool IsWanted => NeedsInput || _bias is not null;

    /// <summary>Whether the matrix's input is needed.</summary>
    internal bool NeedsInput => _weight is not null || _updates.Length > 0;

    /// <summary>The gradients in the order of <see cref="ExpertMatrix.Parameters"/>; null where there is none, or it is in the parameter already.</summary>
    internal IEnumerable<Tensor?> All => [_isInParameter ? null : _weight, _bias, .. _updates.SelectMany(static u => new[] { u.A, u.B })];

    /// <summary>Adds an expert's gradients.</summary>
    /// <param name="expert">Index of the expert.</param>
    /// <param name="gradient">Gradient of its output, [rows, out].</param>
    /// <param name="input">Its input, [rows, in]; null if not needed.</param>
    internal void Add(int expert, Tensor gradient, Tensor? input)
    {
        using var scope = NewDisposeScope();
        if (_weight is not null)
        {
            AddWeight(_matrix.OfStack(_weight, expert), gradient, input!);
        }

        _ = _bias?.select(0, expert).copy_(gradient.sum([0]));
        if (_updates.Length == 0)
        {
            return;
        }

        var (exact, states) = (gradient.Widened(), input!.Widened());
        foreach (var (update, (ofA, ofB)) in _matrix.Updates.Zip(_updates))
        {
            var (a, b) = update.Of(_matrix, expert);
            using Scalar scale = update.Scale;
            var (sumA, sumB) = ExpertUpdate.Views(_matrix, ofA ?? update.A, ofB ?? update.B, expert);
            var trained = _matrix.UpdatesAsStored ? (A: ofB, B: ofA) : (A: ofA, B: ofB);
            if (trained.A is not null)
            {
                _ = sumA.copy_(exact.mm(b).t().mm(states).mul_(scale));
            }

            if (trained.B is not null)
            {
                _ = sumB.copy_(exact.t().mm(states.mm(a.t())).mul_(scale));
            }
        }
    }

    private static void AddWeight(Tensor sum, Tensor gradient, Tensor input)
    {
        var dtype = ProductPrecision.Of(gradient, gradient.size(0));
        if (dtype == sum.dtype)
        {
            _ = sum.addmm_(gradient.t(), input);
        }
        else
        {
            _ = sum.PlusInPlace(gradient.to(dtype).t().mm(input.to(dtype)).to(sum.dtype));
        }
    }

    // Gradients of a stack are summed in the parameter's own where that can be written, so that no second tensor of its size is needed.
    private static (Tensor Sum, bool IsInParameter) Sum(Parameter weight)
    {
        if (!weight.is_leaf || is_grad_enabled())
        {
            return (zeros(weight.shape, weight.dtype, weight.device), false);
        }

        if (weight.grad is { } found && found.dtype == weight.dtype)
        {
            return (found, true);
        }

        var made = zeros(weight.shape, weight.dtype, weight.device);
        if (weight.grad is null)
        {
            weight.grad = made;
            return (made, true);
        }

        return (made, false);
    }
}
