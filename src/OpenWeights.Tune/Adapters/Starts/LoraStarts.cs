using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters.Starts;

/// <summary>The initializations of a linear layer's update. The tensors they return are in no dispose scope.</summary>
internal static class LoraStarts
{
    /// <summary>First values of A and B.</summary>
    /// <param name="context">The layer.</param>
    /// <exception cref="InvalidDataException">The rank does not suit the layer.</exception>
    internal static LoraWeights Make(StartContext context)
    {
        if (Problem(context.Config, context.Module, context.Layer, context.Rank) is { } problem)
        {
            throw new InvalidDataException($"init_lora_weights: {problem}");
        }

        using var nothing = no_grad();
        return context.Config.Init switch
        {
            LoraInit.Pissa => PissaStart.Make(context),
            LoraInit.Olora => OloraStart.Make(context),
            LoraInit.Orthogonal => OrthogonalStart.Make(context),
            LoraInit.Mica => MicaStart.Make(context),
            LoraInit.Eva => EvaStart.Make(context),
            LoraInit.Corda => CordaStart.Make(context),
            LoraInit.Loftq => LoftqStart.Make(context),
            LoraInit.LoraGa => LoraGaStart.Make(context),
            _ => RandomStart.Make(context),
        };
    }

    /// <summary>Whether an initialization is computed from training data.</summary>
    internal static bool NeedsData(LoraInit init) => init is LoraInit.Eva or LoraInit.Corda or LoraInit.LoraGa;

    /// <summary>Whether an initialization subtracts s B A from the base's weight, so that the adapter's files hold twice the rank.</summary>
    internal static bool SubtractsStart(LoraInit init) => init is LoraInit.Pissa or LoraInit.Olora or LoraInit.Corda or LoraInit.LoraGa;

    /// <summary>Whether an initialization changes the base's weight.</summary>
    internal static bool ChangesBase(LoraInit init) => SubtractsStart(init) || init == LoraInit.Loftq;

    /// <summary>Why a layer's update cannot be initialized; null if it can.</summary>
    /// <param name="config">Settings of the adapter.</param>
    /// <param name="module">Name of the layer.</param>
    /// <param name="layer">The layer.</param>
    /// <param name="rank">Rank of its update.</param>
    internal static string? Problem(LoraConfig config, string module, Layers.LinearLayer layer, int rank)
    {
        var values = Math.Min(layer.InFeatures, layer.OutFeatures);
        var size = $"{module} ([{layer.OutFeatures}, {layer.InFeatures}])";
        return config.Init switch
        {
            LoraInit.Pissa or LoraInit.Olora or LoraInit.Mica or LoraInit.Corda or LoraInit.Loftq when rank > values =>
                $"{Name(config)}: rank {rank} exceeds the number of singular values of {size}; lower r, or set its rank in rank_pattern.",
            LoraInit.LoraGa when 2 * rank > values =>
                $"lora_ga: twice the rank {rank} exceeds the number of singular values of {size}; lower r, or set its rank in rank_pattern.",
            LoraInit.Orthogonal when rank % 2 != 0 => $"orthogonal: the rank of {module} is {rank}, and must be even.",
            LoraInit.Eva when Math.Round(rank * config.Eva.Rho) > layer.InFeatures =>
                $"eva: rank {rank} times eva_config.rho ({config.Eva.Rho}) exceeds the {layer.InFeatures} inputs of {module}; lower r or rho.",
            _ => null,
        };
    }

    /// <summary>PEFT's name of a start that subtracts from the weight, or freezes or measures.</summary>
    internal static string Name(LoraConfig config) => config.Init switch
    {
        LoraInit.Kaiming => "true",
        LoraInit.Pissa when config.PissaIterations is { } iterations => FormattableString.Invariant($"pissa_niter_{iterations}"),
        LoraInit.LoraGa => "lora_ga",
        var init => init.ToString().ToLowerInvariant(),
    };

    /// <summary>Reads a name; false if there is none such.</summary>
    /// <param name="name">The value of init_lora_weights.</param>
    /// <param name="config">Settings, which receive it.</param>
    internal static bool TryRead(string? name, ref LoraConfig config)
    {
        const string Iterated = "pissa_niter_";
        LoraInit? init = name switch
        {
            null or "true" or "True" or "false" or "False" => LoraInit.Kaiming,
            "gaussian" => LoraInit.Gaussian,
            "pissa" => LoraInit.Pissa,
            "olora" => LoraInit.Olora,
            "orthogonal" => LoraInit.Orthogonal,
            "mica" => LoraInit.Mica,
            "eva" => LoraInit.Eva,
            "corda" => LoraInit.Corda,
            "loftq" => LoraInit.Loftq,
            "lora_ga" => LoraInit.LoraGa,
            _ => null,
        };
        if (init is { } known)
        {
            config = config with { Init = known, PissaIterations = null };
            return true;
        }

        if (name!.StartsWith(Iterated, StringComparison.Ordinal) && int.TryParse(name.AsSpan(Iterated.Length), System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var iterations))
        {
            config = config with { Init = LoraInit.Pissa, PissaIterations = iterations };
            return true;
        }

        return false;
    }

    /// <summary>A and B whose product is subtracted from the base's weight.</summary>
    /// <param name="a">Matrix A, [rank, in].</param>
    /// <param name="b">Matrix B, [out, rank].</param>
    internal static LoraWeights Subtracted(Tensor a, Tensor b)
    {
        using var scope = NewDisposeScope();
        var (first, second) = (a.to(float32).contiguous(), b.to(float32).contiguous());
        return new LoraWeights(scope.Detach(first.clone()), scope.Detach(second.clone())) { Start = (scope.Detach(first.clone()), scope.Detach(second.clone())) };
    }
}
