using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli;

/// <summary>A model that a command works with: loaded, with its adapter on, and its tokenizer when one is asked for.</summary>
internal sealed class ModelSession : IDisposable
{
    private readonly Lazy<Tokenizer> _tokenizer;
    private readonly LoraAdapter? _adapter;

    internal ModelSession(string model, string? adapter, string dtype, string device)
    {
        Devices.UseAllCores();
        model = ModelPath.Resolve(model, new DownloadConsole(), Signals.Stop);
        Loaded = ModelLoader.Load(model, Devices.DType(dtype), Devices.Find(device));
        _adapter = adapter is null ? null : PeftFolder.Load(Loaded.Model, adapter, static warning => Console.Error.WriteLine($"warning: {warning}"));
        _tokenizer = new Lazy<Tokenizer>(() => Tokenizer.Load(model));
    }

    internal LoadedModel Loaded { get; }

    internal CausalLanguageModel Model => Loaded.Model;

    internal Tokenizer Tokenizer => _tokenizer.Value;

    public void Dispose()
    {
        _adapter?.Dispose();
        Loaded.Dispose();
    }
}
