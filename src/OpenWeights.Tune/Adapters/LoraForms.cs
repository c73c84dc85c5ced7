using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Layers;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>What LoRA's forms add to a linear layer's A and B: blocks (BD-LoRA) and singular values (KaSA).</summary>
internal static class LoraForms
{
    /// <summary>Shapes of A and B as they are stored.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="module">Name of the layer.</param>
    /// <param name="layer">The layer.</param>
    /// <param name="rank">Rank of its update.</param>
    internal static (long[] A, long[] B) Shapes(LoraConfig config, string module, LinearLayer layer, long rank)
    {
        var blocks = config.BlockDiagonal?.Of(module);
        return (
            [rank, blocks is { IsA: true } ? layer.InFeatures / blocks.Count : layer.InFeatures],
            [layer.OutFeatures, blocks is { IsA: false } ? rank / blocks.Count : rank]);
    }

    /// <summary>A layer's weights as its settings' form has them, from whole A and B.</summary>
    /// <param name="context">The layer.</param>
    /// <param name="weights">A and B; freed if they are replaced.</param>
    internal static LoraWeights Fresh(StartContext context, LoraWeights weights)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        if (context.Config.Kasa is not null)
        {
            var diagonal = empty([context.Rank], float32).normal_(0, 1, context.Generator!).to(context.Device);
            return weights with { Diagonal = scope.Detach(diagonal), Start = KasaStart(context) };
        }

        if (context.Config.BlockDiagonal?.Of(context.Module) is not { } blocks)
        {
            return weights;
        }

        var ((a, b), first) = (Shapes(context.Config, context.Module, context.Layer, context.Rank), weights);
        if (blocks.IsA)
        {
            // As in PEFT: uniform with the bound of kaiming_uniform_ for a rectifier.
            var bound = Math.Sqrt(6.0 / a[1]);
            weights = weights with { A = scope.Detach(empty(a, float32).uniform_(-bound, bound, context.Generator!).to(context.Device)) };
            first.A.Dispose();
        }
        else
        {
            weights = weights with { B = scope.Detach(zeros(b, float32, context.Device)) };
            first.B.Dispose();
        }

        return weights with { Blocks = blocks };
    }

    /// <summary>What KaSA takes from the base's weight: its smallest singular values and vectors, B0 A0 times the scaling factor.</summary>
    /// <param name="context">The layer.</param>
    /// <exception cref="InvalidDataException">Nothing would be left of the weight.</exception>
    internal static (Tensor A, Tensor B) KasaStart(StartContext context)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (u, s, vh) = linalg.svd(context.Weight, fullMatrices: false);
        var first = context.SingularValues - context.Rank;
        using Scalar inverse = 1 / context.Scale;
        return (scope.Detach(vh.narrow(0, first, context.Rank).clone()), scope.Detach(u.narrow(1, first, context.Rank).mul(s.narrow(0, first, context.Rank)).mul(inverse)));
    }

    /// <summary>Problems of forms with an adapted linear layer.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="module">Name of the layer.</param>
    /// <param name="layer">The layer.</param>
    /// <param name="rank">Rank of its update.</param>
    internal static IEnumerable<(string Setting, string Message)> Problems(LoraConfig config, string module, LinearLayer layer, int rank)
    {
        if (LoraStarts.Problem(config, module, layer, rank) is { } start)
        {
            yield return ("init_lora_weights", start);
        }

        if (config.BlockDiagonal?.Problem(module, rank, layer) is { } blocks)
        {
            yield return ("use_bdlora", blocks);
        }

        if (config.Kasa is not null && rank >= Math.Min(layer.InFeatures, layer.OutFeatures))
        {
            yield return ("kasa_config", $"rank {rank} takes all singular values of {module} ([{layer.OutFeatures}, {layer.InFeatures}]), which KaSA removes from the weight; lower r.");
        }
    }

    /// <summary>Forms that cannot be combined, as in PEFT.</summary>
    /// <param name="config">The settings.</param>
    internal static IEnumerable<(string Setting, string Message)> Conflicts(LoraConfig config)
    {
        List<(string Setting, bool IsSet)> forms =
        [
            ("use_dora", config.UseDora), ("use_bdlora", config.BlockDiagonal is not null), ("kasa_config", config.Kasa is not null),
            ("alora_invocation_tokens", config.InvocationTokens.Count > 0), ("init_lora_weights: mica", config.Init == LoraInit.Mica),
        ];
        var set = forms.Where(static f => f.IsSet).Select(static f => f.Setting).ToList();
        if (set.Count > 1)
        {
            yield return (set[0].Split(':')[0], $"{string.Join(" and ", set)} cannot be combined; choose one of them.");
        }

        var changes = LoraStarts.ChangesBase(config.Init);
        if (changes && (config.UseDora || config.LoraBias || set.Count > 0))
        {
            yield return ("init_lora_weights", $"{LoraStarts.Name(config)} cannot be combined with {(config.LoraBias ? "lora_bias" : set[0])}; choose one of them.");
        }

        if ((config.BlockDiagonal is not null || config.Kasa is not null) && config.Init is not (LoraInit.Kaiming or LoraInit.Gaussian) && !changes)
        {
            yield return ("init_lora_weights", $"{LoraStarts.Name(config)} cannot be combined with {set[0]}; set it to true.");
        }

        if (config.InvocationTokens.Count > 0 && (config.ModulesToSave.Count > 0 || config.Bias != BiasTraining.None || config.TrainableTokens.Count > 0 || config.TargetParameters.Count > 0))
        {
            yield return ("alora_invocation_tokens", "only updates of linear layers can be switched on by tokens; remove modules_to_save, bias, trainable_token_indices and target_parameters.");
        }
    }
}
