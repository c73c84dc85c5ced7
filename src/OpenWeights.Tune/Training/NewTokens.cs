using OpenWeights.Formats.HuggingFace;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Models.Weights;

namespace OpenWeights.Tune.Training;

/// <summary>Tokens that a run adds to its model (model.new_tokens).</summary>
internal static class NewTokens
{
    private const string Embedding = "embed_tokens";
    private const string Head = "lm_head";

    /// <summary>The folder of a model with the tokens in its tokenizer; the model's own without new tokens.</summary>
    /// <param name="section">The model section.</param>
    /// <param name="modelPath">The model's folder.</param>
    /// <exception cref="InvalidDataException">The tokenizer cannot take the tokens, or has one already.</exception>
    public static string Folder(ModelSection section, string modelPath)
    {
        ArgumentNullException.ThrowIfNull(section);
        return section.NewTokens.Count == 0 || ModelOverlay.Target(modelPath) is not null ? modelPath : ModelOverlay.Write(modelPath, TokenizerFiles.With(modelPath, section.NewTokens));
    }

    /// <summary>The folder of a model with the tokenizer of an adapter that was trained with more tokens; the model's own if none was.</summary>
    /// <param name="modelPath">The model's folder.</param>
    /// <param name="adapters">Folders of the adapters.</param>
    public static string FolderFor(string modelPath, IEnumerable<string> adapters)
    {
        ArgumentNullException.ThrowIfNull(adapters);
        if (!Tokenizer.IsIn(modelPath))
        {
            return modelPath;
        }

        var size = Tokenizer.Load(modelPath).VocabularySize;
        if (adapters.Select(a => AdapterTokenizer.FolderOf(a, size)).OfType<string>().FirstOrDefault() is not { } folder)
        {
            return modelPath;
        }

        string[] names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];
        return ModelOverlay.Write(modelPath, names.Where(n => File.Exists(Path.Combine(folder, n))).ToDictionary(static n => n, n => File.ReadAllText(Path.Combine(folder, n))));
    }

    /// <summary>A run's config whose adapter has the tokens, and trains their rows unless it trains embedding and head whole.</summary>
    /// <param name="config">The config.</param>
    /// <param name="folder">What <see cref="Folder"/> gave.</param>
    /// <exception cref="ConfigException">The adapter cannot have new tokens.</exception>
    internal static RunConfig Complete(RunConfig config, string folder)
    {
        if (config.Model.NewTokens.Count == 0 || config.Adapter is not { } adapter)
        {
            return config;
        }

        var problem = adapter.Own is not null ? "adapter.type" : adapter.Path is not null ? "adapter.path" : null;
        if (problem is not null)
        {
            throw new ConfigException([new ConfigProblem("", problem, problem == "adapter.path" ? "an adapter that is trained further has the tokens that it has; remove model.new_tokens." : $"model.new_tokens needs an adapter of type lora, or full fine-tuning; {adapter.Type} trains no rows of tokens.")]);
        }

        var (decoder, tokenizer) = (ModelLoader.ReadConfig(ModelFolder.Open(folder)), Tokenizer.Load(folder));
        int[] ids = [.. config.Model.NewTokens.Select(t => tokenizer.TokenToId(t.Token)!.Value)];
        var rows = adapter.TrainableTokenIndices.ToDictionary();
        string[] modules = decoder.TiedEmbeddings ? [Embedding] : [Embedding, Head];
        foreach (var module in modules.Where(m => !adapter.ModulesToSave.Any(s => s.EndsWith(m, StringComparison.Ordinal))))
        {
            rows[module] = [.. rows.GetValueOrDefault(module, []).Union(ids).Order()];
        }

        return config with
        {
            Adapter = adapter with { TrainableTokenIndices = rows, VocabSize = tokenizer.VocabularySize > decoder.VocabularySize ? Math.Max(tokenizer.VocabularySize, adapter.VocabSize ?? 0) : adapter.VocabSize },
        };
    }

    /// <summary>From which tokens the rows of new ones start.</summary>
    /// <param name="section">The model section.</param>
    /// <param name="folder">What <see cref="Folder"/> gave.</param>
    internal static NewRows? Rows(ModelSection section, string folder)
    {
        if (section.NewTokens.Count == 0)
        {
            return null;
        }

        var tokenizer = Tokenizer.Load(folder);
        var starts = section.NewTokens.ToDictionary(
            t => tokenizer.TokenToId(t.Token)!.Value, t => (IReadOnlyList<int>)(t.Words is { Length: > 0 } words ? tokenizer.Encode(" " + words, addSpecialTokens: false) : []));
        return new NewRows(starts.Keys.Min(), tokenizer.VocabularySize, starts);
    }
}
