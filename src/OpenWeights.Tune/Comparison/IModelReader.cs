using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Comparison;

/// <summary>A program that has read a model from files, with the tokenizer, the template and the end tokens that it found there.</summary>
public interface IModelReader
{
    /// <summary>The program's name, such as <c>owt</c>.</summary>
    string Name { get; }

    /// <summary>The longest text that the model takes, in tokens, and what says so; null where the program takes any.</summary>
    (int Tokens, string Because)? Room { get; }

    /// <summary>The tokenizer that it reads texts with; null where the files have none, which leaves rows of token ids.</summary>
    ITokenizer? Tokenizer { get; }

    /// <summary>The tokens that end an answer.</summary>
    IReadOnlyList<int> EndTokens { get; }

    /// <summary>What whoever uses the files with this program should know of them.</summary>
    IReadOnlyList<string> Notes { get; }

    /// <summary>Makes token rows as the program would.</summary>
    /// <param name="trainOn">assistant, completion or all: data.train_on.</param>
    RowTokenizer Rows(string trainOn);

    /// <summary>The mean cross entropy of the rows' trained tokens.</summary>
    /// <param name="rows">Rows, each with a trained token.</param>
    /// <param name="stop">Stops between rows.</param>
    double Loss(IReadOnlyList<TokenRow> rows, CancellationToken stop);

    /// <summary>The likeliest tokens after each prompt, one after another, to an end token or until there are so many.</summary>
    /// <param name="prompts">The prompts' tokens.</param>
    /// <param name="maxNewTokens">The longest answer.</param>
    /// <param name="stop">Stops between tokens.</param>
    IReadOnlyList<IReadOnlyList<int>> Continue(IReadOnlyList<int[]> prompts, int maxNewTokens, CancellationToken stop);
}
