using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;

namespace OpenWeights.Tune.Cli;

/// <summary>A model that a command works with: loaded, with its adapters on, and its tokenizer when one is asked for.</summary>
internal sealed class ModelSession : IDisposable
{
    private readonly Lazy<Tokenizer> _tokenizer;

    internal ModelSession(string model, IReadOnlyList<string> adapters, string dtype, string device, string? quantization)
    {
        Devices.UseAllCores();
        (model, var own) = ModelPath.WithAdapter(model);
        adapters = own is null ? adapters : [own, .. adapters];
        model = ModelPath.Resolve(model, new DownloadConsole(), Signals.Stop);
        Loaded = ModelLoader.Load(model, Devices.DType(dtype), Devices.Find(device), QuantizationSettings.Of(quantization));
        Adapters = new AdapterSet(Loaded.Model);
        _tokenizer = new Lazy<Tokenizer>(() => Tokenizer.Load(model));
        var choices = adapters.Select(AdapterChoice.Parse).ToList();
        foreach (var choice in choices)
        {
            _ = Adapters.Load(choice.Folder, choice.Folder, static warning => Console.Error.WriteLine($"warning: {warning}"));
        }

        Adapters.Use([.. choices.Select(static c => (c.Folder, c.Weight))]);
    }

    internal LoadedModel Loaded { get; }

    internal AdapterSet Adapters { get; }

    internal CausalLanguageModel Model => Loaded.Model;

    internal Tokenizer Tokenizer => _tokenizer.Value;

    public void Dispose()
    {
        Adapters.Dispose();
        Loaded.Dispose();
    }
}
