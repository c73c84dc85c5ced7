using System.CommandLine;

namespace OpenWeights.Tune.Cli;

/// <summary>
/// Options with a fixed set of values, ignoring case; dtypes have aliases. The error message for another value suggests the closest one.
/// </summary>
internal static class Choices
{
    private static readonly string[][] s_sameDtype = [["float32", "f32", "fp32", "float"], ["bfloat16", "bf16"], ["float16", "f16", "fp16", "half"]];

    /// <summary>Restricts an option to some values.</summary>
    internal static Option<T> OnlyFrom<T>(this Option<T> option, params string[] possible)
        where T : class?
    {
        option.CustomParser = result => (result.Tokens.Count == 0 ? null : Canonical(result.Tokens[^1].Value, possible)) as T;
        option.CompletionSources.Add(possible);
        option.Validators.Add(result =>
        {
            foreach (var token in result.Tokens.Where(t => !possible.Contains(Canonical(t.Value, possible))))
            {
                result.AddError($"{option.Name}: '{token.Value}' is not a valid value; valid values are {string.Join(", ", possible)}.{Spelling.DidYouMean(token.Value, possible)}");
            }
        });
        return option;
    }

    private static string Canonical(string text, string[] possible) =>
        Array.Find(possible, p => p.Equals(text, StringComparison.OrdinalIgnoreCase))
        ?? s_sameDtype.FirstOrDefault(names => names.Contains(text, StringComparer.OrdinalIgnoreCase))?.FirstOrDefault(possible.Contains)
        ?? text;
}
