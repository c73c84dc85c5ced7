using OpenWeights.Formats.Families;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Layers.Experts;
using OpenWeights.Tune.Layers.FeedForward;
using OpenWeights.Tune.Layers.Rope;

namespace OpenWeights.Tune.Models.Families;

/// <summary>Reads settings of mixtures of experts that several families have.</summary>
internal static class MixtureReader
{
    /// <summary>A dimension that a setting determines.</summary>
    internal static Dimension Dimension(this ConfigReader config, string setting, int? fallback) => new(setting, config.Int(setting, fallback));

    /// <summary>Settings of experts.</summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">The decoder, for width and activation.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="countSetting">The setting for the number of experts.</param>
    /// <param name="inner">Width of an expert's hidden layer.</param>
    internal static ExpertSettings Experts(this ConfigReader config, DecoderConfig decoder, ExpertFacts facts, string countSetting, Dimension inner) => new()
    {
        Count = config.Int(countSetting, facts.Count),
        CountSetting = countSetting,
        HiddenSize = decoder.HiddenSize,
        Inner = inner,
        Activation = decoder.Activation,
    };

    /// <summary>
    /// The mixture of DeepSeek-V3 and the many families that took it over: sigmoid scores with a correction, groups, a factor, and shared
    /// experts as one wide block.
    /// </summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">The decoder, for width and activation.</param>
    /// <param name="facts">Facts of the family.</param>
    internal static MixtureSettings SigmoidMixture(this ConfigReader config, DecoderConfig decoder, ExpertFacts facts)
    {
        config.RequireText("scoring_func", "sigmoid");
        config.RequireText("topk_method", "noaux_tc");
        return config.SigmoidMixture(decoder, facts, new SigmoidMixtureNames());
    }

    /// <summary>The same with settings of other names.</summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">The decoder, for width and activation.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="names">Names of the settings.</param>
    internal static MixtureSettings SigmoidMixture(this ConfigReader config, DecoderConfig decoder, ExpertFacts facts, SigmoidMixtureNames names)
    {
        var inner = config.Int("moe_intermediate_size", facts.Inner);
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int(names.PerToken, facts.PerToken),
            Router = new RouterSettings
            {
                Scoring = RouterScoring.Sigmoid,
                InFloat32 = true,
                Correction = "gate.e_score_correction_bias",
                Normalizes = config.Flag(names.Normalizes, facts.Normalizes),
                SumEpsilon = 1e-20,
                Scale = config.OptionalNumber("routed_scaling_factor", facts.Scale) ?? 1,
            },
            Experts = config.Experts(decoder, facts, names.Count, new Dimension("moe_intermediate_size", inner)),
            Shared = config.SharedExperts(decoder, names.Shared, facts.SharedCount, "moe_intermediate_size", inner),
        };
        config.RequireExperts(mixture, names.PerToken);
        return mixture with { Router = mixture.Router with { Groups = config.Groups(mixture, facts, setting: names.Groups) } };
    }

    /// <summary>Gives layers a mixture whose settings have the usual names.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="countSetting">The setting for the number of experts.</param>
    /// <param name="router">The router.</param>
    /// <param name="routerLoss">router_aux_loss_coef if the config has none.</param>
    /// <param name="isSparse">Whether a layer has a mixture; null for all.</param>
    internal static DecoderConfig WithUsualMixture(
        this DecoderConfig decoder, ConfigReader config, ExpertFacts facts, string countSetting, RouterSettings router, double routerLoss = 0.001, Func<int, bool>? isSparse = null)
    {
        var inner = facts.Inner is { } width ? config.Dimension("moe_intermediate_size", width) : decoder.FeedForward.Inner;
        var mixture = new MixtureSettings
        {
            ExpertsPerToken = config.Int("num_experts_per_tok", facts.PerToken),
            Router = router,
            Experts = config.Experts(decoder, facts, countSetting, inner),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return decoder.WithMixture(mixture, isSparse ?? (static _ => true)) with { RouterLossWeight = config.RouterLossWeight(routerLoss) };
    }

    /// <summary>Granite's mixture in every layer, beside a block that reads every token where shared_intermediate_size says so.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="config">The config.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="sharedWidth">shared_intermediate_size if the config has none.</param>
    internal static DecoderConfig WithGraniteMixture(this DecoderConfig decoder, ConfigReader config, ExpertFacts facts, int sharedWidth = 0)
    {
        var mixture = new MixtureSettings
        {
            ModuleName = "",
            ExpertsName = "block_sparse_moe.experts",
            ExpertsPerToken = config.Int("num_experts_per_tok", facts.PerToken),
            Router = new RouterSettings { Name = "block_sparse_moe.router", Scoring = RouterScoring.SoftmaxOfChosen },
            Experts = config.Experts(decoder, facts, "num_local_experts", decoder.FeedForward.Inner),
            Shared = config.GraniteShared(decoder, sharedWidth),
        };
        config.RequireExperts(mixture, "num_experts_per_tok");
        return decoder.WithMixture(mixture, static _ => true) with { RouterLossWeight = config.RouterLossWeight() };
    }

    /// <summary>Granite's block that reads every token; null for none.</summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">The decoder.</param>
    /// <param name="width">shared_intermediate_size if the config has none.</param>
    internal static FeedForwardSettings? GraniteShared(this ConfigReader config, DecoderConfig decoder, int width)
    {
        width = (int)config.Number("shared_intermediate_size", width);
        return width == 0 ? null : decoder.FeedForward with
        {
            ModuleName = "shared_mlp",
            Inner = new Dimension("shared_intermediate_size", width),
            FusedProjections = true,
            Names = new FeedForwardNames("", "", "output_linear", "input_linear"),
        };
    }

    /// <summary>The rotary embedding of a kind of layer, from rope_parameters, or with the base that the family has where there is none.</summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">The decoder.</param>
    /// <param name="layerType">The kind of layer.</param>
    /// <param name="theta">The family's base.</param>
    /// <param name="rotatedShare">Fraction of a head that is rotated; 1 for a family that rotates whole heads.</param>
    internal static RopeConfig RopeOf(this ConfigReader config, DecoderConfig decoder, string layerType, double theta, double rotatedShare = 1) =>
        config.Rope(decoder.MaxPositions, decoder.HeadDimension, theta, rotatedShare != 1, layerType, rotatedShare: rotatedShare);

    /// <summary>Reads num_nextn_predict_layers: additional layers after the last that predict further tokens (multi-token prediction); they are kept in the files but not used.</summary>
    internal static void ReadPredictionLayers(this ConfigReader config) => _ = config.Has("num_nextn_predict_layers");

    /// <summary>A number that a config may have for each layer; it must be the same in all.</summary>
    internal static int IntOfLayers(this ConfigReader config, string setting, int fallback)
    {
        if (!config.IsList(setting))
        {
            return config.Int(setting, fallback);
        }

        var values = config.Ints(setting)!;
        config.Require(setting, values.Count > 0 && values.All(v => v == values[0] && v > 0), "layers that differ in it are not supported.");
        return values[0];
    }

    /// <summary>Groups of experts from n_group and topk_group; null for one group.</summary>
    /// <param name="config">The config.</param>
    /// <param name="mixture">The mixture.</param>
    /// <param name="facts">Facts of the family.</param>
    /// <param name="scored">Number of experts whose scores are a group's score.</param>
    /// <param name="setting">The setting for the number of groups.</param>
    internal static ExpertGroups? Groups(this ConfigReader config, MixtureSettings mixture, ExpertFacts facts, int scored = 2, string setting = "n_group")
    {
        var groups = config.OptionalInt(setting, facts.Groups) ?? 1;
        var chosen = config.OptionalInt("topk_group", facts.ChosenGroups) ?? 1;
        var count = mixture.Experts.Count;
        if (groups == 1)
        {
            return null;
        }

        config.Require(setting, count % groups == 0, $"{groups} does not divide {mixture.Experts.CountSetting}, which is {count}.");
        config.Require("topk_group", chosen <= groups, $"{chosen} is more than {setting}, which is {groups}.");
        config.Require(setting, count / groups >= scored, $"a group would have {count / groups} expert; at least {scored} are needed.");
        config.Require(
            "topk_group", chosen * (count / groups) >= mixture.ExpertsPerToken,
            $"{chosen} groups have {chosen * (count / groups)} experts, fewer than the {mixture.ExpertsPerToken} of a token.");
        return new ExpertGroups(groups, chosen, scored);
    }

    /// <summary>Experts that process every token, as one block as wide as all of them; null for none.</summary>
    /// <param name="config">The config.</param>
    /// <param name="decoder">The decoder, for width and activation.</param>
    /// <param name="countSetting">The setting for their number.</param>
    /// <param name="count">Their number if the config has none.</param>
    /// <param name="innerSetting">The setting for the width of one.</param>
    /// <param name="inner">Width of one.</param>
    /// <param name="name">Name of the block within the mixture.</param>
    internal static FeedForwardSettings? SharedExperts(
        this ConfigReader config, DecoderConfig decoder, string countSetting, int? count, string innerSetting, int inner, string name = "shared_experts")
    {
        var number = config.Number(countSetting, count ?? 0);
        config.Require(countSetting, number >= 0 && number == Math.Floor(number), FormattableString.Invariant($"a whole number is expected, not {number}."));
        return number == 0 ? null : decoder.FeedForward with
        {
            ModuleName = name,
            Inner = new Dimension(number == 1 ? innerSetting : $"{countSetting} x {innerSetting}", (long)number * inner),
            HasBias = decoder.FeedForward.HasBias,
        };
    }

    /// <summary>Whether each layer has a mixture, from mlp_layer_types.</summary>
    /// <param name="config">The config.</param>
    /// <param name="layers">Number of layers.</param>
    /// <param name="isSparse">Which layers have one if the config has no such list.</param>
    internal static bool[] SparseLayers(this ConfigReader config, int layers, Func<int, bool> isSparse)
    {
        if (config.Texts("mlp_layer_types") is not { } types)
        {
            return [.. Enumerable.Range(0, layers).Select(isSparse)];
        }

        config.Require("mlp_layer_types", types.Count == layers, $"it lists {types.Count} layers; num_hidden_layers is {layers}.");
        var unknown = types.FirstOrDefault(static t => t is not ("dense" or "sparse"));
        config.Require("mlp_layer_types", unknown is null, $"'{unknown}' is not supported; supported are dense and sparse.");
        return [.. types.Select(static t => t == "sparse")];
    }

    /// <summary>Gives layers a mixture as their feed-forward.</summary>
    /// <param name="decoder">The decoder.</param>
    /// <param name="mixture">The mixture.</param>
    /// <param name="isSparse">Whether a layer has it.</param>
    internal static DecoderConfig WithMixture(this DecoderConfig decoder, FeedForwardSettings mixture, Func<int, bool> isSparse) => decoder with
    {
        Layers = [.. Enumerable.Range(0, decoder.LayerCount).Select(i => isSparse(i) ? decoder.Layer(i) with { FeedForward = mixture } : decoder.Layer(i))],
    };

    /// <summary>Coefficient of the load balancing loss: router_aux_loss_coef if output_router_logits is set.</summary>
    /// <param name="config">The config.</param>
    /// <param name="usual">The coefficient if the config has none.</param>
    internal static double RouterLossWeight(this ConfigReader config, double usual = 0.001)
    {
        var weight = config.Number("router_aux_loss_coef", usual);
        return config.Flag("output_router_logits") ? weight : 0;
    }

    /// <summary>Throws if there are more experts per token than experts.</summary>
    internal static void RequireExperts(this ConfigReader config, MixtureSettings mixture, string setting) =>
        config.Require(
            setting, mixture.ExpertsPerToken <= mixture.Experts.Count, $"{mixture.ExpertsPerToken} is more than {mixture.Experts.CountSetting}, which is {mixture.Experts.Count}.");
}

/// <summary>Names of the settings of DeepSeek-V3's mixture.</summary>
/// <param name="PerToken">The number of experts of a token.</param>
/// <param name="Count">The number of experts.</param>
/// <param name="Shared">The number of shared experts.</param>
/// <param name="Groups">The number of groups of experts.</param>
/// <param name="Normalizes">Whether the scores of a token's experts are divided by their sum.</param>
internal sealed record SigmoidMixtureNames(
    string PerToken = "num_experts_per_tok", string Count = "n_routed_experts", string Shared = "n_shared_experts", string Groups = "n_group", string Normalizes = "norm_topk_prob");
