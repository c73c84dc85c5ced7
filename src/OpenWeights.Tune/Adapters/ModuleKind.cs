using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A kind of adapter with a part for each of its target modules.</summary>
/// <typeparam name="T">The kind's settings.</typeparam>
internal abstract class ModuleKind<T> : AdapterKind
    where T : AdapterConfig, new()
{
    internal override Type Settings => typeof(T);

    /// <summary>Keys of adapter_config.json that are supported only if they are absent, null, false or 0.</summary>
    private protected virtual IReadOnlyCollection<string> Unused => [];

    /// <summary>Keys of adapter_config.json that change nothing that is computed here.</summary>
    private protected virtual IReadOnlyCollection<string> Harmless => [];

    /// <summary>Those of exclude_modules, layers_to_transform and layers_pattern that PEFT does not have for this kind.</summary>
    private protected virtual IReadOnlyCollection<string> Lacks => [];

    internal override AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown)
    {
        var config = new T();
        KindSettings.Read(config, json, path, (Unused, Harmless), out unknown);
        return PeftConfig.ReadCommon(config, json, path);
    }

    internal override JsonObject Write(PeftAdapter adapter, string? baseModel)
    {
        var json = adapter.Source?.DeepClone().AsObject();
        if (json is null)
        {
            json = PeftConfig.WriteCommon(adapter.Config, AdaptedNames(adapter), adapter.Base.Config.IsPart ? adapter.Base.Config.Names : null);
            json["peft_type"] = PeftType;
            KindSettings.Write(Saved((T)adapter.Config, adapter), json);
            NameTargets(json, adapter);
        }

        PeftConfig.WriteBase(json, baseModel);
        return json;
    }

    internal override IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, AdapterConfig config)
    {
        var before = 0;
        foreach (var problem in AdapterTargets.Problems(model, config))
        {
            before++;
            yield return problem;
        }

        if (before > 0)
        {
            yield break;
        }

        var adapted = model.AdaptableModules.Where(m => AdapterTargets.IsAdapted(model, m, config)).ToList();
        if (adapted.Count == 0)
        {
            yield return ("target_modules", AdapterTargets.NoTarget(model, config));
        }

        foreach (var (name, module) in adapted)
        {
            if (Problem((T)config, name, module) is { } problem)
            {
                yield return problem;
            }
        }
    }

    internal override PeftAdapter Fresh(CausalLanguageModel model, AdapterConfig config, Generator generator, StartData? data) => Attach(config, new FreshTensors(model, generator), source: null);

    internal override PeftAdapter Meta(CausalLanguageModel model, AdapterConfig config) => Attach(config, new MetaTensors(model), source: null);

    internal override PeftAdapter Load(CausalLanguageModel model, AdapterConfig config, SafetensorsFile file, JsonObject source, Action<string>? warn)
    {
        if (Problems(model, config).Select(static p => $"{p.Setting}: {p.Message}").FirstOrDefault(static p => !p.StartsWith("target_modules.", StringComparison.Ordinal)) is { } problem)
        {
            throw new InvalidDataException($"{file.Location}: {problem}");
        }

        var asked = new AskedTensors(model, file);
        foreach (var part in Parts((T)config, asked).ToList())
        {
            part.Dispose();
        }

        asked.Asked.Check(model, file, PeftFolder.BaseName(source), warn);
        return Attach(config, new FileTensors(model, file), source);
    }

    internal override bool HasNoEffect(AdapterConfig config, ITensorSource file, CausalLanguageModel? model)
    {
        // Fully trained weights and biases have an effect; tensors outside the modules are shared ones.
        var own = file.Tensors.Select(static t => t.Name).Where(static n => n.StartsWith(PeftFolder.Prefix, StringComparison.Ordinal)).Select(static n => n[PeftFolder.Prefix.Length..]).ToList();
        var places = own.ConvertAll(n => n.IndexOf($".{TensorPrefix}", StringComparison.Ordinal));
        if (own.Count == 0 || places.Contains(-1))
        {
            return false;
        }

        using var nothing = no_grad();
        return own.Zip(places).GroupBy(static n => n.First[..n.Second]).All(module => IsIdle(
            (T)config, new StoredModule(module.Key, [.. module.Select(static n => n.First[(n.Second + 1)..])], name => TensorFiles.Read(file, $"{PeftFolder.Prefix}{module.Key}.{name}"))));
    }

    /// <summary>Why a module cannot be adapted with some settings, with the name of the setting; null if it can.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="name">Name of the module.</param>
    /// <param name="module">The module.</param>
    private protected virtual (string Setting, string Message)? Problem(T config, string name, nn.Module module) => null;

    /// <summary>What the names of a module's own tensors begin with, such as hada_.</summary>
    private protected abstract string TensorPrefix { get; }

    /// <summary>The parts of a module. Values may be missing, so that none is computed here.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="site">The module.</param>
    private protected abstract IEnumerable<AdapterPart> Parts(T config, ModuleSite site);

    /// <summary>Whether the tensors of a module do not change it.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="stored">The tensors.</param>
    private protected virtual bool IsIdle(T config, StoredModule stored) => false;

    /// <summary>The value of a setting for a module.</summary>
    /// <param name="patterns">Values of individual modules.</param>
    /// <param name="module">Name of the module.</param>
    /// <param name="otherwise">The value of the others.</param>
    private protected static TValue ByModule<TValue>(IReadOnlyDictionary<string, TValue> patterns, string module, TValue otherwise) =>
        TargetModules.FirstMatch(patterns, module, out var own) ? own : otherwise;

    /// <summary>Settings to save, where they are not those of the run.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="adapter">The adapter.</param>
    private protected virtual T Saved(T config, PeftAdapter adapter) => config;

    private static List<string> AdaptedNames(PeftAdapter adapter) =>
        [.. adapter.Base.AdaptableModules.Where(m => !adapter.Config.SavesWhole(m.Name) && AdapterTargets.IsAdapted(adapter.Base, m, adapter.Config)).Select(static m => m.Name)];

    // Where PEFT has no setting for what was left out, the adapted modules are named one by one.
    private void NameTargets(JsonObject json, PeftAdapter adapter)
    {
        _ = json.Remove("fan_in_fan_out");
        if (Lacks.Any(key => json[key] is not null))
        {
            json["target_modules"] = new JsonArray([.. AdaptedNames(adapter).Select(static n => (JsonNode)n)]);
        }

        foreach (var key in Lacks)
        {
            _ = json.Remove(key);
        }
    }

    /// <summary>Puts an adapter on a model.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="tensors">Source of the tensors.</param>
    /// <param name="source">The adapter_config.json; null for a new adapter.</param>
    private protected virtual PeftAdapter Attach(AdapterConfig config, AdapterTensors tensors, JsonObject? source) => PeftAdapter.Attach(tensors.Model, config, Parts((T)config, tensors), source);

    private IEnumerable<AdapterPart> Parts(T config, AdapterTensors tensors)
    {
        var modules = AdapterTargets.Of(tensors.Model, config);
        LinearLayer[] adapted = [.. modules.Where(m => AdapterTargets.IsAdapted(tensors.Model, m, config)).Select(static m => m.Module).OfType<LinearLayer>()];
        foreach (var (name, module) in modules)
        {
            tensors.Model.Stack.LayerWeights?.Show(name);
            foreach (var whole in WholeParts.Of(tensors.Model, (name, module), config, tensors))
            {
                yield return whole;
            }

            if (!config.SavesWhole(name) && AdapterTargets.IsAdapted(tensors.Model, (name, module), config))
            {
                foreach (var part in Parts(config, new ModuleSite(name, module, tensors) { Adapted = adapted }))
                {
                    yield return part;
                }
            }
        }

        if (tensors.AllShared.Count > 0)
        {
            yield return new SharedPart(tensors.AllShared);
        }
    }
}
