using System.Globalization;
using OpenWeights.Tokenizers.Templates;

namespace OpenWeights.Tune.Configuration;

/// <summary>Checks that involve several settings of the data section.</summary>
internal static class DataRules
{
    /// <summary>The problems, each with the name of its setting.</summary>
    internal static IEnumerable<(string Key, string Message)> Of(DataSection data) =>
        Sources("data.train", data.Train).Concat(Sources("data.eval", data.Eval)).Concat(Weights(data.Train)).Concat(Variables(data)).Concat(
            data.EvalFraction > 0 && data.Eval.Count > 0
                ? [("data.eval_fraction", "set data.eval or data.eval_fraction, not both.")]
                : Enumerable.Empty<(string, string)>());

    private static IEnumerable<(string Key, string Message)> Sources(string list, IReadOnlyList<DataSource> sources)
    {
        for (var i = 0; i < sources.Count; i++)
        {
            var (source, key) = (sources[i], string.Create(CultureInfo.InvariantCulture, $"{list}.{i}"));
            if (source.Path.Length == 0 && string.IsNullOrWhiteSpace(source.Query))
            {
                yield return (key + ".path", "this setting is required: a file, a folder, a glob pattern, or a query.");
            }

            if (HubDataPath.Problem(source.Path) is { } name)
            {
                yield return (key + ".path", name);
            }
            else if (!HubDataPath.Is(source.Path) && (source.Split ?? source.Config) is not null)
            {
                yield return ($"{key}.{(source.Split is null ? "config" : "split")}", "this setting is for a data set of the Hub; write its path as hub://ORG/NAME, or remove the setting.");
            }
            else if (HubDataPath.Is(source.Path) && source.Split is null && list == "data.eval")
            {
                yield return (key + ".split", "name the split to evaluate on, such as test; left out, it is train.");
            }

            if (source.Delimiter is { Length: not 1 })
            {
                yield return (key + ".delimiter", $"'{source.Delimiter}' is not a single character; use one such as \";\" or \"\\t\".");
            }

            foreach (var field in source.Fields.Keys.Where(static f => !RowFields.Names.Contains(f)))
            {
                var nearest = Spelling.Nearest(field, RowFields.Names);
                yield return ($"{key}.fields.{field}", $"unknown field; {(nearest is null ? "known" : $"did you mean {nearest}? Known")} are {string.Join(", ", RowFields.Names)}.");
            }

            foreach (var role in source.Roles.Keys.Where(static r => !RowFields.Roles.Contains(r)))
            {
                yield return ($"{key}.roles.{role}", $"unknown role; valid roles are {string.Join(", ", RowFields.Roles)}.");
            }
        }
    }

    private static IEnumerable<(string Key, string Message)> Variables(DataSection data) =>
        data.ChatTemplateKwargs.Keys.Select(static name => ($"data.chat_template_kwargs.{name}", ChatTemplateDefaults.Problem(name)!)).Where(static p => p.Item2 is not null);

    private static IEnumerable<(string Key, string Message)> Weights(IReadOnlyList<DataSource> sources)
    {
        if (sources.Count > 0 && sources.All(static s => s.Weight == 0))
        {
            yield return ("data.train", "every weight is 0, so no rows would be left; set at least one above 0.");
        }
    }
}
