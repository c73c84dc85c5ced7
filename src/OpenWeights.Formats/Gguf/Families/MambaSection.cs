using OpenWeights.Formats.Json;

namespace OpenWeights.Formats.Gguf.Families;

/// <summary>The sizes of a Mamba mixer.</summary>
/// <param name="Kernel">Length of the convolution.</param>
/// <param name="Inner">Width of all heads together.</param>
/// <param name="State">Size of a state.</param>
/// <param name="Steps">Number of heads; for Mamba 1 the rank of the time steps.</param>
/// <param name="Groups">Groups of heads that share B and C; null for Mamba 1.</param>
internal sealed record MambaSizes(int Kernel, int Inner, int State, int Steps, int? Groups);

/// <summary>What families with Mamba 2 have in common: names, forms and keys of its mixers.</summary>
internal static class MambaSection
{
    /// <summary>The modules of a mixer.</summary>
    internal static IReadOnlyList<(string HuggingFace, string Gguf)> Modules(string mixer) =>
        [($"{mixer}.in_proj", "ssm_in"), ($"{mixer}.conv1d", "ssm_conv1d"), ($"{mixer}.norm", "ssm_norm"), ($"{mixer}.out_proj", "ssm_out")];

    /// <summary>The tensors of a mixer that are no module's weight.</summary>
    internal static IReadOnlyList<(string HuggingFace, string Gguf)> Tensors(string mixer) => [($"{mixer}.A_log", "ssm_a"), ($"{mixer}.D", "ssm_d"), ($"{mixer}.dt_bias", "ssm_dt.bias")];

    /// <summary>The form of a Mamba 2 mixer's tensor; null for other tensors.</summary>
    /// <param name="part">GGUF's name within the layer.</param>
    /// <param name="groups">Groups of the mixer's norm.</param>
    internal static GgufForm? FormOf(string part, int groups) => part switch
    {
        "ssm_a" => new GgufForm { IsNegativeExponential = true, Shape = GgufShape.Column },
        "ssm_d" => new GgufForm { Shape = GgufShape.Column },
        "ssm_conv1d.weight" => new GgufForm { Shape = GgufShape.Convolution },
        "ssm_norm.weight" => new GgufForm { Shape = GgufShape.Groups(groups) },
        _ => null,
    };

    /// <summary>A mixer's sizes in settings that are named mamba_ and so on.</summary>
    internal static MambaSizes Sizes(ConfigJson config, string? innerSetting = null)
    {
        var inner = innerSetting is not null && !config.IsNull(innerSetting) ? config.Int(innerSetting, 1024) : (int)(config.Number("mamba_expand", 2) * config.Int("hidden_size"));
        return new MambaSizes(config.Int("mamba_d_conv", 4), inner, config.Int("mamba_d_state", 256), config.Int("mamba_n_heads", 128), config.Int("mamba_n_groups", 1));
    }

    /// <summary>Settings that are named mamba_ and so on, for a file's sizes.</summary>
    internal static void ReadSizes(GgufFile file, string architecture, System.Text.Json.Nodes.JsonObject config)
    {
        var sizes = Read(file, architecture);
        config["mamba_d_conv"] = sizes.Kernel;
        config["mamba_d_state"] = sizes.State;
        config["mamba_n_heads"] = sizes.Steps;
        config["mamba_n_groups"] = sizes.Groups;
        config["mamba_d_head"] = sizes.Inner / sizes.Steps;
        config["mamba_expand"] = (double)sizes.Inner / config["hidden_size"]!.GetValue<int>();
        config["mamba_conv_bias"] = true;
        config["mamba_proj_bias"] = false;
    }

    /// <summary>Writes the keys of the sizes.</summary>
    internal static void Write(MambaSizes sizes, GgufMetadata metadata, string architecture)
    {
        void Add(string key, int value) => metadata.Add($"{architecture}.ssm.{key}", (uint)value);
        Add("conv_kernel", sizes.Kernel);
        Add("inner_size", sizes.Inner);
        Add("state_size", sizes.State);
        Add("time_step_rank", sizes.Steps);
        if (sizes.Groups is { } groups)
        {
            Add("group_count", groups);
        }
    }

    /// <summary>The sizes in a file.</summary>
    internal static MambaSizes Read(GgufFile file, string architecture)
    {
        int Int(string key) => file.Metadata.Int($"{architecture}.ssm.{key}") ?? throw file.Metadata.Error($"{architecture}.ssm.{key}", "this key is missing.");
        return new MambaSizes(Int("conv_kernel"), Int("inner_size"), Int("state_size"), Int("time_step_rank"), file.Metadata.Int($"{architecture}.ssm.group_count"));
    }

    /// <summary>Throws for settings of a mixer that llama.cpp does not compute with.</summary>
    /// <param name="config">The model's config.json.</param>
    /// <param name="convolutionBias">The setting of the convolution's bias.</param>
    /// <param name="projectionBias">The setting of the projections' biases.</param>
    internal static void RefuseUnusual(ConfigJson config, string convolutionBias, string projectionBias)
    {
        if (config.Has(convolutionBias) && !config.Flag(convolutionBias))
        {
            throw config.Error(convolutionBias, "llama.cpp requires a bias of the convolution for this family.");
        }

        if (config.Flag(projectionBias))
        {
            throw config.Error(projectionBias, "llama.cpp has no biases of the mixer's projections, so the result would differ from the model.");
        }
    }

    /// <summary>Throws if time steps are limited, which llama.cpp does not do.</summary>
    internal static void RefuseLimits(ConfigJson config)
    {
        if (config.Texts("time_step_limit") is { } limits && !(limits is [var least, var largest] && double.TryParse(least, System.Globalization.CultureInfo.InvariantCulture, out var value) && value == 0
            && largest.Contains("Infinity", StringComparison.Ordinal)))
        {
            throw config.Error("time_step_limit", "llama.cpp does not limit time steps, so the result would differ from the model.");
        }
    }

    /// <summary>Throws if a mixer is not twice as wide as the hidden states, where llama.cpp requires it.</summary>
    internal static void RequireDouble(ConfigJson config, MambaSizes sizes)
    {
        if (sizes.Inner != 2 * config.Int("hidden_size"))
        {
            throw config.Error("mamba_expand", "llama.cpp requires the mixer to be twice as wide as hidden_size for this family.");
        }
    }
}
