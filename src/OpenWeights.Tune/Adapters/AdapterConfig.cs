using System.Globalization;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Settings that every kind of adapter has, with PEFT's names.</summary>
internal abstract record AdapterConfig : AdapterTypeSettings
{
    /// <summary>Modules to adapt.</summary>
    public TargetModules Targets { get; init; } = TargetModules.AllLinear;

    /// <summary>Modules excluded from the targets; null for none.</summary>
    public TargetModules? Excluded { get; init; }

    /// <summary>layers_to_transform: indexes of the layers to adapt; empty for all.</summary>
    public IReadOnlyList<int> LayersToTransform { get; init; } = [];

    /// <summary>layers_pattern: name of the module list that contains these layers, such as layers; empty for any.</summary>
    public IReadOnlyList<string> LayersPattern { get; init; } = [];

    /// <summary>modules_to_save: modules trained in full, by full name or suffix; they are never adapted.</summary>
    public IReadOnlyList<string> ModulesToSave { get; init; } = [];

    /// <summary>bias: which biases of the base model are trained.</summary>
    public BiasTraining Bias { get; init; }

    /// <summary>Whether the kind can adapt a module, if it is a target.</summary>
    /// <param name="module">The module.</param>
    internal virtual bool Takes(nn.Module module) => module is LinearLayer;

    /// <summary>Settings by module, whose keys are names or patterns, such as rank_pattern.</summary>
    internal virtual IEnumerable<(string Setting, IEnumerable<string> Keys)> Patterns => [];

    /// <summary>Whether a parameter is adapted by name, by PEFT's rules.</summary>
    /// <param name="parameter">Name of the parameter, such as model.layers.0.mlp.experts.down_proj.</param>
    public virtual bool AdaptsParameter(string parameter) => false;

    /// <summary>Whether a module is adapted, by PEFT's rules.</summary>
    /// <param name="module">Name of the module, such as model.layers.0.self_attn.q_proj.</param>
    public bool Adapts(string module) =>
        Excluded?.Matches(module) != true
        && !SavesWhole(module)
        && Targets.Matches(module)
        && (LayersToTransform.Count == 0 || Targets.Names?.Contains(module) == true || (LayerOf(module) is { } layer && LayersToTransform.Contains(layer)));

    /// <summary>Whether a module, or one that contains it, is trained in full.</summary>
    /// <param name="module">Name of the module, such as model.embed_tokens.</param>
    public bool SavesWhole(string module)
    {
        var dotted = $".{module}.";
        return ModulesToSave.Any(m => dotted.Contains($".{m}.", StringComparison.Ordinal));
    }

    // The first number after the name of the layer list; a later number may be an expert's.
    private int? LayerOf(string module)
    {
        var lists = LayersPattern.Count == 0 ? [@"[^.]*"] : LayersPattern;
        foreach (var list in lists)
        {
            if (TargetModules.Match(module, list, $@"\A.*?\.(?:{list})\.(\d+)\.") is { Success: true } found)
            {
                return int.Parse(found.Groups[^1].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);
            }
        }

        return null;
    }
}

/// <summary>Which biases of the base model an adapter trains (PEFT's bias).</summary>
internal enum BiasTraining
{
    /// <summary>none: no biases.</summary>
    None,

    /// <summary>all: all biases of the model.</summary>
    All,

    /// <summary>lora_only (of other kinds boft_only and so on): biases of the adapted layers.</summary>
    LoraOnly,
}
