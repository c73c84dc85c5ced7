using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Decoding;

/// <summary>What a model can read and continue.</summary>
/// <param name="VocabularySize">Number of tokens that it knows.</param>
/// <param name="Context">Maximum length of a text.</param>
internal sealed record TextLimits(int VocabularySize, ContextLimit Context)
{
    /// <summary>Throws if a model cannot generate text.</summary>
    /// <param name="model">The model.</param>
    /// <exception cref="InvalidDataException">It has a head of labels, or attention that looks both ways.</exception>
    internal static void RequireGenerating(CausalLanguageModel model)
    {
        model.Config.RequireLanguage("generating text");
        if (model.Stack.IsBidirectional)
        {
            throw new InvalidDataException("this model's attention looks both ways (is_causal: false), as for embeddings; it cannot generate text.");
        }
    }

    /// <summary>Throws if a prompt cannot be continued.</summary>
    /// <param name="prompt">The prompt.</param>
    /// <param name="virtualTokens">Number of virtual tokens ahead of it.</param>
    /// <exception cref="ArgumentException">It is empty.</exception>
    /// <exception cref="InvalidDataException">It leaves no room for a token, or has an unknown one.</exception>
    internal void Require(IReadOnlyList<int> prompt, int virtualTokens)
    {
        if (prompt.Count == 0)
        {
            throw new ArgumentException("a prompt is empty; the model needs at least one token to continue from.", nameof(prompt));
        }

        foreach (var token in prompt)
        {
            if (token < 0 || token >= VocabularySize)
            {
                throw new InvalidDataException($"a prompt has the token {token}, and the model knows {VocabularySize} tokens, counted from 0; is the tokenizer the model's own?");
            }
        }

        if (prompt.Count + virtualTokens >= Context.Tokens)
        {
            throw new InvalidDataException($"the prompt has {prompt.Count} tokens, which fills the context of {Context.Tokens} tokens ({Context.Reason}); shorten it.");
        }
    }

    /// <summary>Throws if a bias names a token that the model does not know.</summary>
    /// <param name="biases">The biases.</param>
    /// <exception cref="InvalidDataException">One does.</exception>
    internal void Require(IReadOnlyDictionary<int, float> biases)
    {
        foreach (var token in biases.Keys)
        {
            if (token < 0 || token >= VocabularySize)
            {
                throw new InvalidDataException($"a bias is set for the token {token}, and the model knows {VocabularySize} tokens, counted from 0.");
            }
        }
    }
}
