using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Adapters;

/// <summary>
/// Several named adapters on one base model. One of them, a combination, or none is active at a time, or each row of a batch has its own
/// (<see cref="UseByRow"/>); switching loads nothing from disk, and adapters are loaded and unloaded over the same base.
/// </summary>
internal sealed class AdapterSet : IDisposable
{
    private readonly CausalLanguageModel _model;
    private readonly Dictionary<string, PeftAdapter> _adapters = [];
    private CombinedAdapter? _mix;
    private bool _isByRow;

    /// <summary>Creates an empty set.</summary>
    /// <param name="model">The base model; the caller keeps ownership.</param>
    public AdapterSet(CausalLanguageModel model) => _model = model;

    /// <summary>Names of the adapters, in the order in which they were added.</summary>
    public IReadOnlyCollection<string> Names => _adapters.Keys;

    /// <summary>An adapter by name.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="KeyNotFoundException">There is no adapter of that name.</exception>
    public PeftAdapter this[string name] => _adapters.GetValueOrDefault(name) ?? throw new KeyNotFoundException($"no adapter is named '{name}'; loaded are {string.Join(", ", Names)}");

    /// <summary>The active adapter or combination; null if the base model is unmodified.</summary>
    public CombinedAdapter? Active => _mix;

    /// <summary>Whether each row of a batch has its own adapter.</summary>
    internal bool IsByRow => _isByRow;

    /// <summary>Loads an adapter from a PEFT folder. It is inactive until it is used; what is active stays active.</summary>
    /// <param name="name">A name for the adapter.</param>
    /// <param name="path">The folder.</param>
    /// <param name="warn">See <see cref="PeftFolder.Load"/>.</param>
    /// <param name="anyBase">See <see cref="PeftFolder.Load"/>.</param>
    /// <exception cref="ArgumentException">An adapter of that name exists already.</exception>
    /// <exception cref="InvalidDataException">The adapter cannot be read, or does not fit the model.</exception>
    public PeftAdapter Load(string name, string path, Action<string>? warn = null, bool anyBase = false)
    {
        if (_adapters.ContainsKey(name))
        {
            throw new ArgumentException($"an adapter named '{name}' is already loaded", nameof(name));
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
            Activate();
        }
    }

    /// <summary>Removes an adapter and frees it. What is active without it stays active; the base model, if it was part of the active combination.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="KeyNotFoundException">There is no adapter of that name.</exception>
    public void Unload(string name)
    {
        var adapter = this[name];
        CombinedAdapter.Disable(_model);
        if (_mix?.Contains(adapter) == true)
        {
            _mix.Dispose();
            _mix = null;
        }

        _ = _adapters.Remove(name);
        adapter.Dispose();
        Activate();
    }

    /// <summary>
    /// Activates all adapters, those of now and those that are loaded later, for batches whose rows name theirs (<see cref="ModelInput.Adapters"/>; PEFT's
    /// adapter_names); rows without a name are the base model's. An adapter that cannot be used so (<see cref="PeftAdapter.Unmixable"/>) is refused where a
    /// row names it.
    /// </summary>
    public void UseByRow()
    {
        Use();
        _isByRow = true;
        Activate();
    }

    /// <summary>Activates a combination of adapters, replacing what was active.</summary>
    /// <param name="names">Adapters and their weights; none for the base model alone.</param>
    /// <exception cref="KeyNotFoundException">There is no adapter of a given name.</exception>
    public void Use(params IReadOnlyList<(string Name, double Weight)> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        var mix = names.Count == 0 ? null : new CombinedAdapter(
        [
            .. names.Select(n => (this[n.Name], n.Weight)),
        ]);
        CombinedAdapter.Disable(_model);
        _mix?.Dispose();
        (_mix, _isByRow) = (mix, false);
        Activate();
    }

    private void Activate()
    {
        if (_isByRow)
        {
            RowAdapters.Enable(_model, _adapters);
        }
        else
        {
            _mix?.Enable(_model);
        }
    }

    /// <summary>Removes the adapters from the model and frees them.</summary>
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
