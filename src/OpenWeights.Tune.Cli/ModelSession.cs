using System.Globalization;
using System.Text.Json.Nodes;
using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Cli.Output;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Weights;
using OpenWeights.Tune.Quantization;
using OpenWeights.Tune.Torch;
using OpenWeights.Tune.Training;
using OpenWeights.Tune.Training.Memory;

namespace OpenWeights.Tune.Cli;

/// <summary>A loaded model for a command, with its adapters, and its tokenizer when needed.</summary>
internal sealed class ModelSession : IDisposable
{
    /// <summary>Message for a model whose results are NaN or infinite.</summary>
    internal const string NotFinite = "what the model computes is not finite numbers: its files are damaged, or it overflows in its dtype (--dtype float32).";

    private readonly Lazy<Tokenizer> _tokenizer;
    private readonly IReadOnlyList<AdapterChoice> _choices;

    internal ModelSession(string model, IReadOnlyList<string> adapters, string dtype, string device, string? quantization, bool anyBase, JsonObject templateValues, bool isExact = false)
    {
        Devices.UseAllCores();
        (model, var own) = ModelPath.WithAdapter(model);
        adapters = own is null ? adapters : [own, .. adapters];
        model = ModelPath.Resolve(model, new DownloadConsole(), Signals.Stop);
        var choices = adapters.Select(AdapterChoice.Parse).ToList();
        model = NewTokens.FolderFor(model, choices.Select(static c => c.Folder));
        var (place, settings) = (Devices.Find(device.Split(',')), QuantizationSettings.Of(quantization));
        var (exact, rounded) = isExact && dtype == "auto" ? ExactDType.Of(model, place[^1], settings, AvailableMemory.Of(place)) : (null, null);
        if (rounded is not null)
        {
            Warn(rounded);
        }

        Loaded = ModelLoader.LoadOnto(model, exact ?? Devices.DType(dtype), place, settings, labels: AdapterChoice.Labels(choices), keepsBlocks: quantization is null && !isExact);
        if (Loaded.Model.HeldBlocks is { Count: > 0 } held)
        {
            Console.Error.WriteLine($"note: weights stay packed as the file has them ({string.Join(", ", held.Select(static h => $"{Amount.Count(h.Bytes >> 20)} MiB of {h.Type}"))}); --quantization none unpacks them.");
        }

        Loaded.Embedding = AdapterChoice.Embedding(choices) ?? Loaded.Embedding;
        foreach (var warning in Loaded.Warnings)
        {
            Warn(warning);
        }

        Adapters = new AdapterSet(Loaded.Model);
        ChatTemplate = NamedTemplates.WithValues(
            choices.Select(static c => PeftFolder.ChatTemplate(c.Folder)).FirstOrDefault(static t => t is not null), Loaded.Folder.FolderPath, templateValues);
        _tokenizer = new Lazy<Tokenizer>(() => ChatTemplate is { } template ? Tokenizer.Load(model).WithChatTemplate(template) : Tokenizer.Load(model));
        foreach (var choice in choices)
        {
            _ = Adapters.Load(choice.Folder, choice.Folder, Warn, anyBase);
            if (choice.Weight == 0)
            {
                Warn($"{choice.Folder}: with a weight of 0 the adapter has no effect.");
            }
        }

        _choices = choices;
        Use();
    }

    /// <summary>Runs work with the base model alone, and then again with the adapters.</summary>
    /// <returns>Both results; that of the base is null where there is no adapter, or it is not wanted.</returns>
    internal (T? Base, T Result) BesideBase<T>(bool wantsBase, Func<T> work)
        where T : class
    {
        if (!wantsBase || _choices.Count == 0)
        {
            return (null, work());
        }

        Adapters.Use();
        var own = work();
        Use();
        return (own, work());
    }

    private void Use() => Adapters.Use([.. _choices.Select(static c => (c.Folder, c.Weight))]);

    /// <summary>The chat template of an adapter, or one with the given variables; null for the model's.</summary>
    internal string? ChatTemplate { get; }

    internal LoadedModel Loaded { get; }

    internal AdapterSet Adapters { get; }

    internal CausalLanguageModel Model => Loaded.Model;

    internal Tokenizer Tokenizer => _tokenizer.Value;

    /// <summary>The folder or file of a model's tokenizer, and the chat template that a run uses instead of the model's.</summary>
    internal static (string Path, string? ChatTemplate) FindTokenizer(string model)
    {
        (model, var adapter) = ModelPath.WithAdapter(model);
        return (ModelPath.ResolveTokenizer(model, new DownloadConsole(), Signals.Stop), adapter is null ? null : PeftFolder.ChatTemplate(adapter));
    }

    internal static void Warn(string warning) => Console.Error.WriteLine($"warning: {warning}");

    public void Dispose()
    {
        Adapters.Dispose();
        Loaded.Dispose();
    }
}

/// <summary>An adapter on the command line, with its weight: DIR, or DIR=0.7.</summary>
/// <param name="Folder">The adapter's folder.</param>
/// <param name="Weight">Weight of the adapter.</param>
internal sealed record AdapterChoice(string Folder, double Weight)
{
    /// <summary>The head of labels that one of some adapters brings; null for none.</summary>
    internal static LabelHead? Labels(IEnumerable<AdapterChoice> choices) => choices.Select(static c => LabelFile.Of(c.Folder)).FirstOrDefault(static l => l is not null);

    /// <summary>How one of some adapters embeds texts; null for adapters of other uses.</summary>
    internal static EmbeddingSettings? Embedding(IEnumerable<AdapterChoice> choices) =>
        choices.Select(static c => AdapterFolder.Find(c.Folder) is { } folder ? EmbeddingFiles.Of(folder) : null).FirstOrDefault(static e => e is not null);

    /// <summary>Parses DIR or DIR=NUMBER; an existing folder whose name contains = is a folder.</summary>
    internal static AdapterChoice Parse(string text)
    {
        var equals = text.LastIndexOf('=');
        return equals > 0 && !Directory.Exists(text)
            && double.TryParse(text.AsSpan(equals + 1), NumberStyles.Float, CultureInfo.InvariantCulture, out var weight) && double.IsFinite(weight)
            ? new AdapterChoice(text[..equals], weight)
            : new AdapterChoice(text, 1);
    }
}
