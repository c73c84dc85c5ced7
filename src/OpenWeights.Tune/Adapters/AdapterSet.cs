using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>Several adapters on one base, by name: one of them, a combination or none is on at a time, and switching loads nothing.</summary>
public sealed class AdapterSet : IDisposable
{
    private readonly CausalLanguageModel _model;
    private readonly Dictionary<string, LoraAdapter> _adapters = [];
    private CombinedAdapter? _mix;

    /// <summary>A set without adapters.</summary>
    /// <param name="model">The base; it stays the caller's.</param>
    public AdapterSet(CausalLanguageModel model) => _model = model;

    /// <summary>The adapters' names, in the order that they came.</summary>
    public IReadOnlyCollection<string> Names => _adapters.Keys;

    /// <summary>An adapter.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="KeyNotFoundException">There is no adapter of that name.</exception>
    public LoraAdapter this[string name] => _adapters.GetValueOrDefault(name) ?? throw new KeyNotFoundException($"there is no adapter '{name}'; there are {string.Join(", ", Names)}");

    /// <summary>What is on the model; null for the base alone.</summary>
    public CombinedAdapter? Active => _mix;

    /// <summary>Reads an adapter from a PEFT folder. It is off until it is used, and what is on stays on.</summary>
    /// <param name="name">The name to use it by.</param>
    /// <param name="path">The folder.</param>
    /// <param name="warn">As <see cref="PeftFolder.Load"/>.</param>
    /// <param name="anyBase">As <see cref="PeftFolder.Load"/>.</param>
    /// <exception cref="ArgumentException">There is an adapter of that name.</exception>
    /// <exception cref="InvalidDataException">The adapter cannot be read, or does not fit the model.</exception>
    public LoraAdapter Load(string name, string path, Action<string>? warn = null, bool anyBase = false)
    {
        if (_adapters.ContainsKey(name))
        {
            throw new ArgumentException($"there is an adapter '{name}' already", nameof(name));
        }

        CombinedAdapter.Disable(_model);
        try
        {
            var adapter = PeftFolder.Load(_model, path, warn, anyBase);
            adapter.Enabled = false;
            return _adapters[name] = adapter;
        }
        finally
        {
            _mix?.Enable(_model);
        }
    }

    /// <summary>Puts a combination of adapters on the model, and takes off what was on.</summary>
    /// <param name="names">Adapters, and how much of each; none for the base alone.</param>
    /// <exception cref="KeyNotFoundException">There is no adapter of a name.</exception>
    public void Use(params IReadOnlyList<(string Name, double Weight)> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        var mix = names.Count == 0 ? null : new CombinedAdapter(
        [
            .. names.Select(n => (this[n.Name], n.Weight)),
        ]);
        CombinedAdapter.Disable(_model);
        _mix?.Dispose();
        _mix = mix;
        mix?.Enable(_model);
    }

    /// <summary>Takes the adapters off the model and frees them.</summary>
    public void Dispose()
    {
        Use();
        foreach (var adapter in _adapters.Values)
        {
            adapter.Dispose();
        }

        _adapters.Clear();
    }
}
