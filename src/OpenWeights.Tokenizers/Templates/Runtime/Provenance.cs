using OpenWeights.Tokenizers.Templates.Values;

namespace OpenWeights.Tokenizers.Templates.Runtime;

/// <summary>Finds which messages of the input a value was made from.</summary>
internal static class Provenance
{
    private const int MaxValues = 10_000;

    /// <summary>
    /// The messages (from 0) whose data a dict that a template built holds; those whose role it holds, if it holds nothing else of any.
    /// </summary>
    public static SortedSet<int> Owners(PyDict dict)
    {
        foreach (var kind in new[] { MarkKind.Content, MarkKind.Role })
        {
            var owners = new SortedSet<int>();
            var left = MaxValues;
            Collect(dict, kind, owners, ref left);
            if (owners.Count > 0)
            {
                return owners;
            }
        }

        return [];
    }

    private static void Collect(object? value, MarkKind kind, SortedSet<int> owners, ref int left)
    {
        TemplateFailure.GuardStack();
        if (left-- <= 0)
        {
            return;
        }

        switch (value)
        {
            case PyString { Runs: { } runs }:
                foreach (var run in runs)
                {
                    if (run.Mark.Owner != 0 && run.Mark.Kind == kind)
                    {
                        _ = owners.Add(run.Mark.Owner - 1);
                    }
                }

                break;
            case PyDict { Turn: not 0 } message:
                _ = owners.Add(message.Turn - 1);
                break;
            case PyDict dict:
                foreach (var (key, item) in dict.Entries)
                {
                    Collect(key, kind, owners, ref left);
                    Collect(item, kind, owners, ref left);
                }

                break;
            case PyList list:
                foreach (var item in list.Items)
                {
                    Collect(item, kind, owners, ref left);
                }

                break;
            case PyTuple tuple:
                foreach (var item in tuple.Items)
                {
                    Collect(item, kind, owners, ref left);
                }

                break;
        }
    }
}
