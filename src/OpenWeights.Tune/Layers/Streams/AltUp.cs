using OpenWeights.Tune.Kernels;
using TorchSharp;
using TorchSharp.Modules;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Layers.Streams;

/// <summary>Settings of alternating updates (AltUp).</summary>
internal sealed record AltUpSettings
{
    /// <summary>Width of a stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Number of residual streams (altup_num_inputs).</summary>
    public required int Count { get; init; }

    /// <summary>The stream that the layer itself reads (altup_active_idx).</summary>
    public required int Active { get; init; }

    /// <summary>Largest absolute value of a coefficient's weight (altup_coef_clip); null for no limit.</summary>
    public double? Limit { get; init; }

    /// <summary>Whether what is added to the other streams is computed from the scaled output (altup_correct_scale).</summary>
    public bool ScalesOutput { get; init; }

    /// <summary>Settings of the router's norm.</summary>
    public required NormSettings Norm { get; init; }
}

/// <summary>
/// Alternating updates (Baykal et al., 2023): a layer reads one of several residual streams. The others are predicted from all of them, and
/// corrected by the layer's change of its own.
/// </summary>
internal sealed class AltUp : nn.Module
{
    [ComponentName(Name = "correct_output_scale")]
    private readonly Parameter _scale;

    [ComponentName(Name = "correction_coefs")]
    private readonly LinearLayer _correction;

    [ComponentName(Name = "prediction_coefs")]
    private readonly LinearLayer _prediction;

    [ComponentName(Name = "modality_router")]
    private readonly LinearLayer _router;

    [ComponentName(Name = "router_norm")]
    private readonly Norm _norm;

    private readonly AltUpSettings _settings;
    private readonly Scalar _inverseWidth;

    /// <summary>Creates the updates of a layer.</summary>
    /// <param name="settings">Their settings.</param>
    /// <param name="weights">Source of the weights.</param>
    /// <param name="name">Name of the module in the checkpoint.</param>
    public AltUp(AltUpSettings settings, IWeightSource weights, string name)
        : base(nameof(AltUp))
    {
        ArgumentNullException.ThrowIfNull(settings);
        ArgumentNullException.ThrowIfNull(weights);
        _settings = settings;
        _inverseWidth = 1.0 / settings.HiddenSize;
        var (hidden, count) = (new Dimension("hidden_size", settings.HiddenSize), new Dimension("altup_num_inputs", settings.Count));
        _scale = weights.Take($"{name}.correct_output_scale", InitialWeight.Zeros, hidden);
        _correction = Small("correction_coefs", count, count, settings.Limit);
        _prediction = Small("prediction_coefs", new Dimension("altup_num_inputs^2", (long)settings.Count * settings.Count), count, settings.Limit);
        _router = Small("modality_router", count, hidden, limit: null);
        _norm = settings.Norm.Take(weights, $"{name}.router_norm", hidden);
        RegisterComponents();

        // Never quantized, as they are small. The reference limits the coefficients' weights in place, in each pass; nothing but training
        // changes them, so here it is done once.
        LinearLayer Small(string layer, Dimension output, Dimension input, double? limit)
        {
            var weight = weights.Take($"{name}.{layer}.weight", InitialWeight.Normal, output, input);

            // An outline's weights have a shape, but no memory of their own.
            if (limit is { } most && weight.is_contiguous())
            {
                using var nothing = no_grad();
                using Scalar high = most;
                using Scalar low = -most;
                _ = weight.clamp_(low, high);
            }

            return new LinearLayer(weight, null);
        }
    }

    /// <summary>What is saved per token for backward: the streams before and after the prediction, and the correction.</summary>
    internal long Kept => 3L * _settings.Count * _settings.HiddenSize;

    /// <summary>The stream that the layer reads.</summary>
    /// <param name="streams">The streams, [streams, batch, tokens, hidden].</param>
    internal Tensor Active(Tensor streams) => streams.select(0, _settings.Active);

    /// <summary>Predicts all streams after the layer, in the caller's dispose scope.</summary>
    /// <param name="streams">The streams, [streams, batch, tokens, hidden].</param>
    internal Tensor Predict(Tensor streams)
    {
        using var scope = NewDisposeScope();
        var modalities = Modalities(Active(streams));
        var coefficients = _prediction.call(modalities).view(modalities.size(0), modalities.size(1), _settings.Count, _settings.Count).transpose(-1, -2);
        return streams.permute(1, 2, 3, 0).matmul(coefficients).permute(3, 0, 1, 2).Plus(streams).contiguous().MoveToOuterDisposeScope();
    }

    /// <summary>Corrects the predictions by the layer's output, in the caller's dispose scope.</summary>
    /// <param name="predictions">The predicted streams.</param>
    /// <param name="output">Output of the layer, [batch, tokens, hidden].</param>
    internal Tensor Correct(Tensor predictions, Tensor output)
    {
        using var scope = NewDisposeScope();
        var innovation = output.sub(Active(predictions));
        var coefficients = _correction.call(Modalities(output)).add(Scalars.One, Scalars.One).permute(2, 0, 1).unsqueeze(-1);
        return innovation.unsqueeze(0).mul(coefficients).Plus(predictions).MoveToOuterDisposeScope();
    }

    /// <summary>Adds an update computed from the layer's own stream to all streams but the first, in the caller's dispose scope.</summary>
    /// <param name="streams">The streams.</param>
    /// <param name="update">Computes it, [batch, tokens, hidden].</param>
    internal Tensor AddToOthers(Tensor streams, Func<Tensor, Tensor> update)
    {
        using var scope = NewDisposeScope();
        var own = Active(streams);
        var added = update(_settings.ScalesOutput ? own.mul(_scale) : own);
        return cat([streams.narrow(0, 0, 1), streams.narrow(0, 1, _settings.Count - 1).Plus(added)], 0).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _inverseWidth.Dispose();
        }

        base.Dispose(disposing);
    }

    private Tensor Modalities(Tensor states) => _router.call(_norm.call(states).mul(_inverseWidth)).Widened().tanh().to(states.dtype);
}
