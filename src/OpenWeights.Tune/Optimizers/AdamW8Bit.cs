using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Quantization;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Optimizers;

/// <summary>
/// AdamW with 8-bit moments, block-wise quantized with 256 elements per scale (Dettmers et al., 2022; bitsandbytes' AdamW8bit): a quarter
/// of AdamW's state. As in bitsandbytes, parameters of fewer than 4096 elements keep float32 moments, and weight decay is applied after the
/// update.
/// </summary>
public sealed class AdamW8Bit : ParameterOptimizer
{
    /// <summary>Number of elements per scale.</summary>
    public const int BlockSize = 256;

    /// <summary>Parameters with fewer elements keep float32 moments.</summary>
    public const int MinElements = 4096;

    private static readonly Scalar s_least = 1e-38;
    private readonly AdamSettings _settings;
    private readonly Scalar _decay1;
    private readonly Scalar _rest1;
    private readonly Scalar _decay2;
    private readonly Scalar _rest2;

    /// <summary>Creates the optimizer.</summary>
    /// <param name="parameters">Parameters to train.</param>
    /// <param name="settings">Hyperparameters.</param>
    /// <param name="memory">How state is stored.</param>
    public AdamW8Bit(IEnumerable<TrainedParameter> parameters, AdamSettings settings, OptimizerMemory memory = default)
        : base(parameters, memory, static p => p.numel() < MinElements ? AdamW.Moments(p) : Codes(p))
    {
        ArgumentNullException.ThrowIfNull(settings);
        _settings = settings;
        (_decay1, _rest1) = (Keep(settings.Beta1), Keep(1 - settings.Beta1));
        (_decay2, _rest2) = (Keep(settings.Beta2), Keep(1 - settings.Beta2));
    }

    /// <inheritdoc/>
    protected override void Update(ParameterSlot slot, Tensor weight, Tensor gradient, double rate)
    {
        ArgumentNullException.ThrowIfNull(slot);
        ArgumentNullException.ThrowIfNull(weight);
        ArgumentNullException.ThrowIfNull(gradient);
        var coded = slot.StateCount == 4;
        var flat = gradient.reshape(-1);
        var mean = coded ? Decode(slot[0], slot[1], signed: true) : slot[0].view(-1);
        var square = coded ? Decode(slot[2], slot[3], signed: false) : slot[1].view(-1);
        _ = mean.mul_(_decay1).add_(flat, _rest1);
        _ = square.mul_(_decay2).addcmul_(flat, flat, _rest2);

        // AdamW's update, with numerator and denominator multiplied by the square root of the second bias correction.
        var correction = Math.Sqrt(1 - Math.Pow(_settings.Beta2, StepCount));
        using Scalar epsilon = correction * _settings.Epsilon;
        using Scalar size = -rate * correction / (1 - Math.Pow(_settings.Beta1, StepCount));
        _ = weight.view(-1).addcdiv_(mean, square.sqrt().add_(epsilon, Scalars.One), size);
        Decay(slot, weight, rate, _settings.WeightDecay);
        if (coded)
        {
            Encode(mean, slot[0], slot[1], signed: true);
            Encode(square, slot[2], slot[3], signed: false);
        }
    }

    /// <summary>Dequantizes codes: [n] bytes and one scale per block to [n] float32.</summary>
    internal static Tensor Decode(Tensor codes, Tensor scales, bool signed)
    {
        using var scope = NewDisposeScope();
        var count = codes.numel();
        var values = DynamicCode.Of(signed, codes.device).Values.index_select(0, codes.to(ScalarType.Int32));
        var blocks = Padded(values).view(-1, BlockSize);
        return blocks.mul_(scales.unsqueeze(1)).view(-1).narrow(0, 0, count).MoveToOuterDisposeScope();
    }

    /// <summary>Quantizes numbers to codes and scales.</summary>
    internal static void Encode(Tensor values, Tensor codes, Tensor scales, bool signed)
    {
        using var scope = NewDisposeScope();
        var count = values.numel();
        var code = DynamicCode.Of(signed, values.device);
        var blocks = Padded(values).view(-1, BlockSize);
        _ = scales.copy_(blocks.abs().amax(1));
        var found = blocks.div(scales.clamp_min(s_least).unsqueeze(1)).bucketize(code.Middles, outInt32: true);
        if (signed)
        {
            // A nonzero mean keeps its sign: one that rounds to 0 or past it moves back a level, as in bitsandbytes' kernel.
            var negative = blocks.lt(Scalars.Zero);
            var zero = code.Values.index_select(0, found.view(-1)).view(-1, BlockSize).ge(Scalars.Zero);
            _ = found.sub_(negative.logical_and(zero).to(ScalarType.Int32));
        }

        _ = codes.copy_(found.view(-1).narrow(0, 0, count));
    }

    private static (string, Tensor)[] Codes(Tensor parameter)
    {
        var (count, device) = (parameter.numel(), parameter.device);
        var blocks = (count + BlockSize - 1) / BlockSize;
        Tensor Zero(bool signed)
        {
            using Scalar code = Array.IndexOf(DynamicCode.Levels(signed), 0f);
            return zeros([count], ScalarType.Byte, device).fill_(code);
        }

        return
        [
            ("exp_avg", Zero(signed: true)), ("exp_avg.absmax", zeros([blocks], float32, device)),
            ("exp_avg_sq", Zero(signed: false)), ("exp_avg_sq.absmax", zeros([blocks], float32, device)),
        ];
    }

    // Padded with zeros to whole blocks.
    private static Tensor Padded(Tensor values)
    {
        var rest = values.numel() % BlockSize;
        return rest == 0 ? values : cat([values, zeros([BlockSize - rest], float32, values.device)], 0);
    }
}
