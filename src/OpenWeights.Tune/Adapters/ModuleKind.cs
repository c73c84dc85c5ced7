using System.Text.Json.Nodes;
using OpenWeights.Formats.Safetensors;
using OpenWeights.Tune.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>A module that is adapted, and where its tensors come from.</summary>
/// <param name="Module">Name of the module, such as model.layers.0.self_attn.q_proj.</param>
/// <param name="Target">The module.</param>
/// <param name="Tensors">Source of the tensors.</param>
internal sealed record ModuleSite(string Module, nn.Module Target, AdapterTensors Tensors)
{
    /// <summary>A trained parameter of the module, float32.</summary>
    /// <param name="name">Its name within the module, such as hada_w1_a.</param>
    /// <param name="fill">Initial values.</param>
    /// <param name="shape">Its shape.</param>
    internal Parameter Trained(string name, Fill fill, params long[] shape) => new(Tensors.Take($"{Module}.{name}", fill, shape));
}

/// <summary>A kind of adapter with a part for each of its target modules.</summary>
/// <typeparam name="T">The kind's settings.</typeparam>
internal abstract class ModuleKind<T> : AdapterKind
    where T : AdapterConfig, new()
{
    internal override Type Settings => typeof(T);

    /// <summary>Keys of adapter_config.json that are supported only if they are absent, null, false or 0.</summary>
    private protected virtual IReadOnlyCollection<string> Unused => [];

    /// <summary>Those of exclude_modules, layers_to_transform and layers_pattern that PEFT does not have for this kind.</summary>
    private protected virtual IReadOnlyCollection<string> Lacks => [];

    internal override AdapterConfig Read(JsonObject json, string path, out IReadOnlyList<string> unknown)
    {
        var config = new T();
        KindSettings.Read(config, json, path, Unused, out unknown);
        return PeftConfig.ReadCommon(config, json, path);
    }

    internal override JsonObject Write(PeftAdapter adapter, string? baseModel)
    {
        var json = adapter.Source?.DeepClone().AsObject();
        if (json is null)
        {
            json = PeftConfig.WriteCommon(adapter.Config, [.. adapter.Parts.OfType<LinearPart>().Select(static p => p.Module)], adapter.Base.Config.IsPart ? adapter.Base.Config.Names : null);
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

        var asked = new AskedTensors(model);
        foreach (var part in Parts((T)config, asked).ToList())
        {
            part.Dispose();
        }

        asked.Asked.Check(model, file, PeftFolder.BaseName(source), warn);
        return Attach(config, new FileTensors(model, file), source);
    }

    internal override bool HasNoEffect(AdapterConfig config, ITensorSource file, CausalLanguageModel? model) => false;

    /// <summary>Why a module cannot be adapted with some settings, with the name of the setting; null if it can.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="name">Name of the module.</param>
    /// <param name="module">The module.</param>
    private protected virtual (string Setting, string Message)? Problem(T config, string name, nn.Module module) => null;

    /// <summary>The part of a module. Values may be missing, so that none is computed here.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="site">The module.</param>
    private protected abstract AdapterPart Part(T config, ModuleSite site);

    /// <summary>Settings to save, where they are not those of the run.</summary>
    /// <param name="config">The settings.</param>
    /// <param name="adapter">The adapter.</param>
    private protected virtual T Saved(T config, PeftAdapter adapter) => config;

    // Where PEFT has no setting for what was left out, the adapted modules are named one by one.
    private void NameTargets(JsonObject json, PeftAdapter adapter)
    {
        _ = json.Remove("fan_in_fan_out");
        if (Lacks.Any(key => json[key] is not null))
        {
            json["target_modules"] = new JsonArray([.. adapter.Parts.OfType<LinearPart>().Select(static p => (JsonNode)p.Module)]);
        }

        foreach (var key in Lacks)
        {
            _ = json.Remove(key);
        }
    }

    private PeftAdapter Attach(AdapterConfig config, AdapterTensors tensors, JsonObject? source) => PeftAdapter.Attach(tensors.Model, config, Parts((T)config, tensors), source);

    private IEnumerable<AdapterPart> Parts(T config, AdapterTensors tensors)
    {
        foreach (var (name, module) in AdapterTargets.Of(tensors.Model, config))
        {
            foreach (var whole in WholeParts.Of(tensors.Model, (name, module), config, tensors))
            {
                yield return whole;
            }

            if (!config.SavesWhole(name) && AdapterTargets.IsAdapted(tensors.Model, (name, module), config))
            {
                yield return Part(config, new ModuleSite(name, module, tensors));
            }
        }

        if (tensors.AllShared.Count > 0)
        {
            yield return new SharedPart(tensors.AllShared);
        }
    }
}
