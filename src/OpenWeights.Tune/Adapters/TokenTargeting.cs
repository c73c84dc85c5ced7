using System.Globalization;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Adapters;

/// <summary>Tokens whose rows are trained, of some modules.</summary>
/// <param name="Modules">The modules, by name or pattern; null for the token embedding.</param>
/// <param name="Tokens">The tokens.</param>
internal sealed record TokenRows(TargetModules? Modules, IReadOnlyList<int> Tokens);

/// <summary>Resolves trainable_token_indices: which rows of which modules are trained.</summary>
internal static class TokenTargeting
{
    /// <summary>The modules with trained rows, in the model's order; of a tied head, whether it follows the embedding.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    internal static IReadOnlyDictionary<string, (IReadOnlyList<int> Tokens, bool Follows)> Of(CausalLanguageModel model, LoraConfig config)
    {
        var found = new Dictionary<string, (IReadOnlyList<int> Tokens, bool Follows)>();
        if (config.TrainableTokens.Count == 0)
        {
            return found;
        }

        var names = model.Config.Names;
        foreach (var (name, module) in model.AdaptableModules.Where(static m => m.Module is TokenEmbedding or LinearLayer))
        {
            if (config.TrainableTokens.FirstOrDefault(t => Matches(t, name, module)) is { } own)
            {
                found[name] = (own.Tokens, false);
            }
        }

        // As in PEFT: a tied head follows the embedding, unless it has other tokens of its own.
        if (model.Config.TiedEmbeddings && found.TryGetValue(names.EmbeddingModule, out var embedding) && (!found.TryGetValue(names.Head, out var head) || head.Tokens.SequenceEqual(embedding.Tokens)))
        {
            found[names.Head] = (embedding.Tokens, true);
        }

        return found;
    }

    /// <summary>Problems of the setting with a model.</summary>
    /// <param name="model">The base model.</param>
    /// <param name="config">The settings.</param>
    internal static IEnumerable<(string Setting, string Message)> Problems(CausalLanguageModel model, LoraConfig config)
    {
        const string Setting = "trainable_token_indices";
        foreach (var rows in config.TrainableTokens)
        {
            var where = rows.Modules is { } modules ? modules.Pattern ?? string.Join(", ", modules.Names ?? []) : "the embedding";
            if (!model.AdaptableModules.Any(m => m.Module is TokenEmbedding or LinearLayer && Matches(rows, m.Name, m.Module)))
            {
                yield return (Setting, $"the model has no embedding or linear layer named {where}; its embedding is {model.Config.Names.EmbeddingModule}, its head {model.Config.Names.Head}.");
            }

            if (rows.Tokens.Count == 0)
            {
                yield return (Setting, $"{where} has no tokens; name some, or remove it.");
            }

            var tokens = Math.Max(model.VocabularySize, config.VocabularySize ?? 0);
            foreach (var token in rows.Tokens.Where(t => t < 0 || t >= tokens))
            {
                yield return (Setting, string.Create(CultureInfo.InvariantCulture, $"{token} is not one of the model's {tokens} tokens, numbered from 0."));
            }

            if (rows.Tokens.GroupBy(static t => t).FirstOrDefault(static g => g.Count() > 1) is { } twice)
            {
                yield return (Setting, string.Create(CultureInfo.InvariantCulture, $"{twice.Key} is named twice for {where}."));
            }
        }

        var targets = Of(model, config);
        foreach (var name in targets.Keys.Where(name => config.SavesWhole(name)))
        {
            yield return (Setting, $"{name} is trained in full by modules_to_save; remove it there or here.");
        }

        foreach (var (name, module) in model.AdaptableModules.Where(m => targets.ContainsKey(m.Name) && AdapterTargets.IsAdapted(model, m, config)))
        {
            yield return (Setting, $"{name} is adapted by target_modules as well; remove it there or here.");
        }

        if (config.EnsureWeightTying && model.Config.TiedEmbeddings && targets.TryGetValue(model.Config.Names.Head, out var head) && !head.Follows && targets.ContainsKey(model.Config.Names.EmbeddingModule))
        {
            yield return ("ensure_weight_tying", "embedding and head are tied, but trainable_token_indices names different tokens for them; name the same, or set ensure_weight_tying to false.");
        }
    }

    private static bool Matches(TokenRows rows, string name, nn.Module module) => rows.Modules?.Matches(name) ?? module is TokenEmbedding;
}
