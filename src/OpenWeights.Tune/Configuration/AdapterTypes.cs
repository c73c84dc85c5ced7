using System.Reflection;

namespace OpenWeights.Tune.Configuration;

/// <summary>Names an adapter type; it is set on the record of the type's own settings.</summary>
/// <param name="name">The name in adapter.type, such as loha.</param>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class AdapterTypeAttribute(string name) : Attribute
{
    /// <summary>The name in adapter.type.</summary>
    public string Name { get; } = name;

    /// <summary>PEFT's value of bias for the biases of the adapted layers, such as boft_only; null if PEFT trains no biases with this type.</summary>
    public string? OwnBiases { get; init; }
}

/// <summary>The own settings of an adapter type, with PEFT's names and defaults.</summary>
internal abstract record AdapterTypeSettings
{
    /// <summary>The type's name in adapter.type.</summary>
    public string TypeName => GetType().GetCustomAttribute<AdapterTypeAttribute>()?.Name ?? AdapterTypes.Lora;

    /// <summary>PEFT's value of bias for the biases of the adapted layers; null if PEFT trains no biases with this type.</summary>
    internal string? OwnBiases => GetType().GetCustomAttribute<AdapterTypeAttribute>() is { } type ? type.OwnBiases : "lora_only";
}

/// <summary>The adapter types. Those besides LoRA are the records of this library that have an <see cref="AdapterTypeAttribute"/>.</summary>
internal static class AdapterTypes
{
    internal const string Lora = "lora";

    private static readonly SortedDictionary<string, Type> s_settings = new(
        typeof(AdapterTypes).Assembly.GetTypes().Where(static t => t.GetCustomAttribute<AdapterTypeAttribute>() is not null)
            .ToDictionary(static t => t.GetCustomAttribute<AdapterTypeAttribute>()!.Name),
        StringComparer.Ordinal);

    /// <summary>All names, LoRA first.</summary>
    internal static IReadOnlyList<string> Names => [Lora, .. s_settings.Keys];

    /// <summary>The types besides LoRA, with the records of their settings.</summary>
    internal static IReadOnlyDictionary<string, Type> Others => s_settings;

    /// <summary>The own settings of a type with their defaults; null for LoRA and for an unknown type.</summary>
    /// <param name="name">The type's name.</param>
    internal static AdapterTypeSettings? NewSettings(string? name) => name is not null && s_settings.TryGetValue(name, out var own) ? (AdapterTypeSettings)Activator.CreateInstance(own)! : null;

    /// <summary>Values of bias: none, all, and the biases of the adapted layers, which each type calls by its own name.</summary>
    internal static IReadOnlyList<string> Biases =>
        ["none", "all", "lora_only", .. s_settings.Values.Select(static t => t.GetCustomAttribute<AdapterTypeAttribute>()!.OwnBiases).OfType<string>().Distinct()];

    /// <summary>The settings of the adapter section for a type, in file order.</summary>
    /// <param name="name">The type's name; an unknown one counts as LoRA.</param>
    internal static IReadOnlyList<SettingInfo> Settings(string name) => s_settings.TryGetValue(name, out var own)
        ? [.. SettingInfo.Of(typeof(AdapterSection)).Where(static s => s.Setting.AllTypes), .. SettingInfo.Of(own)]
        : SettingInfo.Of(typeof(AdapterSection));

    /// <summary>What to say of a key of the adapter section that belongs to another type; null if it belongs to none.</summary>
    /// <param name="name">The type's name.</param>
    /// <param name="key">The key.</param>
    internal static string? OfAnotherType(string name, string key)
    {
        var owners = Names.Where(n => n != name && Settings(n).Any(s => s.Key == key)).ToList();
        var own = Settings(name).Where(static s => !s.Setting.AllTypes).Select(static s => s.Key);
        return owners.Count == 0 ? null : $"this is a setting of the adapter type{(owners.Count > 1 ? "s" : "")} {string.Join(", ", owners)}; {name} has {string.Join(", ", own)}.";
    }
}

/// <summary>The setting adapter.type, with the names of all types.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class AdapterTypeNameAttribute : SettingAttribute
{
    public AdapterTypeNameAttribute()
        : base("Adapter type; docs/adapters.md says which is for what, and lists the settings of each.") => OneOf = [.. AdapterTypes.Names];
}

/// <summary>The setting adapter.bias, with the values of all types.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class AdapterBiasesAttribute : SettingAttribute
{
    public AdapterBiasesAttribute()
        : base("Which biases of the base model are trained: none, all, or those of the adapted layers, which PEFT calls lora_only, boft_only and so on after the type.") => OneOf = [.. AdapterTypes.Biases];
}
