using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace OpenWeights.Tune.Tests.Adapters.Walk;

/// <summary>A tensor of a file or a model in float64.</summary>
internal sealed record Tensor64(long[] Shape, double[] Values)
{
    internal Matrix64 Matrix => new(Shape, Values);

    /// <summary>One of the matrices of a tensor of three dimensions.</summary>
    internal Matrix64 At(int index)
    {
        var size = (int)(Shape[1] * Shape[2]);
        return new Matrix64(Shape[1..], Values[(index * size)..((index + 1) * size)]);
    }
}

/// <summary>
/// What a folder of PEFT's does to a model's weights, from adapter_config.json and the file's tensors alone, in float64 and by the published formulas:
/// nothing here knows the library's adapters.
/// </summary>
/// <param name="config">The adapter_config.json.</param>
/// <param name="file">The tensors of the file, without base_model.model. before their names.</param>
/// <param name="weights">The base model's weights.</param>
/// <param name="linear">Names of the linear layers.</param>
/// <param name="transposes">Whether matrices of experts are stored as [experts, in, out].</param>
internal sealed partial class AdapterDefinition(JsonObject config, IReadOnlyDictionary<string, Tensor64> file, IReadOnlyDictionary<string, Tensor64> weights, IReadOnlyList<string> linear, bool transposes = false)
{
    private readonly Dictionary<string, double[]> _merged = weights.ToDictionary(static w => w.Key, static w => (double[])w.Value.Values.Clone());

    private string Kind => config["peft_type"]!.ToString();

    /// <summary>The model's weights with the adapter merged in.</summary>
    internal IReadOnlyDictionary<string, double[]> Merged()
    {
        // Biases and whole modules stand in the file as they are to be.
        foreach (var (name, tensor) in file)
        {
            var own = name.Replace(".base_layer", "", StringComparison.Ordinal).Replace(".ln_tuning_layers", "", StringComparison.Ordinal);
            if (_merged.ContainsKey(own) || own == "lm_head.weight")
            {
                _merged[own] = tensor.Values;
            }
        }

        foreach (var module in linear.Where(m => IsTarget(m) || IsParameter($"{m}.weight")))
        {
            Merge(module);
        }

        foreach (var parameter in weights.Keys.Where(n => weights[n].Shape.Length == 3 && IsParameter(n)))
        {
            _merged[parameter] = Experts(parameter);
        }

        const string Embedding = "model.embed_tokens";
        if (Kind is "LORA" or "HIRA" or "OFT" && IsTarget(Embedding))
        {
            _merged[$"{Embedding}.weight"] = EmbeddingOf(Embedding, new Matrix64(weights[$"{Embedding}.weight"].Shape, _merged[$"{Embedding}.weight"])).Values;
        }

        return _merged;
    }

    // peft/tuners/tuners_utils.py, check_target_module_exists: a full name counts whatever the layers are.
    internal bool IsTarget(string module)
    {
        if (Names("modules_to_save").Any(m => Ends(module, m)) || (config["exclude_modules"] is { } excluded && Finds(excluded, module)))
        {
            return false;
        }

        var targets = config["target_modules"]!;
        if (targets is JsonValue)
        {
            return Finds(targets, module);
        }

        if (Names("target_modules").Contains(module))
        {
            return true;
        }

        if (!Finds(targets, module))
        {
            return false;
        }

        if (config["layers_to_transform"] is not JsonArray { Count: > 0 } layers)
        {
            return true;
        }

        string[] lists = [.. Names("layers_pattern")];
        var found = (lists.Length == 0 ? [@"[^.]*"] : lists).Select(list => Regex.Match(module, $@"^.*?\.{list}\.(\d+)\.")).FirstOrDefault(static m => m.Success);
        return found is not null && layers.Any(l => (int)l! == int.Parse(found.Groups[1].ValueSpan, CultureInfo.InvariantCulture));
    }

    private bool IsParameter(string name) => Names("target_parameters").Any(p => Ends(name, p));

    private static bool Finds(JsonNode targets, string module) => targets is JsonArray names ? names.Any(n => Ends(module, n!.ToString())) : Regex.IsMatch(module, $"^(?:{targets})$");

    private static bool Ends(string module, string name) => module == name || module.EndsWith($".{name}", StringComparison.Ordinal);

    private IEnumerable<string> Names(string key) => config[key] is JsonArray list ? list.Select(static n => n!.ToString()) : config[key] is { } one ? [one.ToString()] : [];

    private double Number(string key) => (double)config[key]!;

    private int Whole(string key) => (int)config[key]!;

    private bool Flag(string key) => config[key] is { } given && (bool)given;

    // get_pattern_key: the first key that matches the end of the name.
    private double Of(string patterns, string module, double otherwise) =>
        config[patterns] is JsonObject all && all.FirstOrDefault(p => Regex.IsMatch(module, $@"^(.*\.)?({p.Key})$")) is { Value: { } own } ? (double)own : otherwise;

    private Tensor64 Own(string module, string name) => file[$"{module}.{name}"];

    private Matrix64 Own2(string module, string name) => Own(module, name).Matrix;

    private bool Has(string module, string name) => file.ContainsKey($"{module}.{name}");
}
