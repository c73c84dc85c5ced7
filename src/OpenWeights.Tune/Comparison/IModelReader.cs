using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Comparison;

/// <summary>A program that has loaded a model from files, with the tokenizer, chat template and end tokens found there.</summary>
internal interface IModelReader
{
    /// <summary>Name of the program, such as <c>owt</c>.</summary>
    string Name { get; }

    /// <summary>Context length of the model in tokens, and the setting that limits it; null for no limit.</summary>
    (int Tokens, string Because)? Room { get; }

    /// <summary>The model's tokenizer; null if the files contain none, in which case only tokenized rows can be used.</summary>
    ITokenizer? Tokenizer { get; }

    /// <summary>Tokens that end an answer.</summary>
    IReadOnlyList<int> EndTokens { get; }

    /// <summary>Notes for users of the files with this program.</summary>
    IReadOnlyList<string> Notes { get; }

    /// <summary>Creates token rows as the program would.</summary>
    /// <param name="trainOn">assistant, final, reasoning, completion or all, as in data.train_on.</param>
    RowTokenizer Rows(string trainOn);

    /// <summary>Mean cross entropy of the rows' trained tokens.</summary>
    /// <param name="rows">Rows, each with at least one trained token.</param>
    /// <param name="stop">Cancels between rows.</param>
    double Loss(IReadOnlyList<TokenRow> rows, CancellationToken stop);

    /// <summary>Generates greedily after each prompt, up to an end token or the maximum length.</summary>
    /// <param name="prompts">Token ids of the prompts.</param>
    /// <param name="maxNewTokens">Maximum length of an answer, in tokens.</param>
    /// <param name="stop">Cancels between tokens.</param>
    IReadOnlyList<IReadOnlyList<int>> Continue(IReadOnlyList<int[]> prompts, int maxNewTokens, CancellationToken stop);
}
