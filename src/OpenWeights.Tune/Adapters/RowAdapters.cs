using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Adapters of one model, of which each row of a batch can have another (PEFT's adapter_names).</summary>
internal sealed class RowAdapters : IRowAdapters
{
    private readonly IReadOnlyDictionary<string, PeftAdapter> _adapters;

    private RowAdapters(IReadOnlyDictionary<string, PeftAdapter> adapters) => _adapters = adapters;

    /// <summary>Puts adapters on a model, replacing what was active. Those that cannot be used for single rows are left out.</summary>
    /// <param name="model">The model.</param>
    /// <param name="adapters">The adapters by name; the caller keeps ownership.</param>
    internal static void Enable(CausalLanguageModel model, IReadOnlyDictionary<string, PeftAdapter> adapters)
    {
        CombinedAdapter.Disable(model);
        var modules = model.AdaptableModules.ToDictionary(static m => m.Name, static m => m.Module);
        foreach (var (name, adapter) in adapters.Where(static a => a.Value.Unmixable is null))
        {
            foreach (var part in adapter.Parts)
            {
                if (part is ExpertLora experts)
                {
                    experts.AddFor(name);
                }
                else if (modules.TryGetValue(part.Module, out var module))
                {
                    Layer(module).Add(name, part);
                }
            }
        }

        model.Stack.RowAdapters = new RowAdapters(adapters);
    }

    /// <summary>Why an adapter cannot be used for single rows; null if it can.</summary>
    /// <param name="adapter">The adapter.</param>
    internal static string? Problem(PeftAdapter adapter)
    {
        if (adapter.LayerOrder is not null)
        {
            return "its layer_replication changes the number of layers";
        }

        var modules = adapter.Base.AdaptableModules.ToDictionary(static m => m.Name, static m => m.Module);
        return adapter.Parts.Select(part => part switch
        {
            PromptPart => "it has virtual tokens ahead of the text",
            ReplacedWeight { Grows: true } => $"its {part.Module} has a vocabulary of its own",
            ReplacedWeight weight when modules.GetValueOrDefault(part.Module) is not (LinearLayer or TokenEmbedding) => $"it replaces {part.Module}.{weight.Slot.Name}, which has no output of single rows",
            _ => null,
        }).FirstOrDefault(static reason => reason is not null);
    }

    public InvocationTokens? InvocationOf(string name) =>
        !_adapters.TryGetValue(name, out var adapter) ? throw new KeyNotFoundException($"no adapter is named '{name}'; loaded are {string.Join(", ", _adapters.Keys)}")
        : adapter.Unmixable is { } reason ? throw new InvalidDataException($"the adapter '{name}' cannot be used for single rows of a batch: {reason}; activate it alone.")
        : adapter.Invocation;

    private static RowLayer Layer(nn.Module module)
    {
        var (linear, embedding) = (module as LinearLayer, module as TokenEmbedding);
        if ((linear?.Adapter ?? (object?)embedding?.Adapter) is RowLayer there)
        {
            return there;
        }

        var layer = new RowLayer();
        if (linear is not null)
        {
            linear.Adapter = layer;
        }
        else
        {
            embedding!.Adapter = layer;
        }

        return layer;
    }
}
