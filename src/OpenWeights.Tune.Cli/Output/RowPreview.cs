using System.Text;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>Rows as the model sees them, what is trained between brackets.</summary>
internal static class RowPreview
{
    internal static void Write(TextWriter output, IReadOnlyList<TokenRow> rows, ITokenizer? tokenizer, int count)
    {
        output.WriteLine("rows as the model reads them; what is trained stands in [brackets]:");
        foreach (var row in rows.Take(count))
        {
            output.WriteLine($"  {row.Source} ({row.Ids.Length} tokens, {row.CountTargets()} trained)");
            output.WriteLine($"    {Text(row, tokenizer)}");
        }
    }

    private static string Text(TokenRow row, ITokenizer? tokenizer)
    {
        var text = new StringBuilder();
        for (var start = 0; start < row.Ids.Length;)
        {
            var trained = row.Labels[start] != TokenRow.Ignored;
            var end = start;
            while (end < row.Ids.Length && (row.Labels[end] != TokenRow.Ignored) == trained)
            {
                end++;
            }

            var part = tokenizer is null ? string.Join(' ', row.Ids[start..end]) : tokenizer.Decode(row.Ids.Skip(start).Take(end - start), skipSpecialTokens: false);
            _ = text.Append(trained ? "[" : "").Append(part).Append(trained ? "]" : "");
            start = end;
        }

        return text.Replace("\n", "\\n").ToString();
    }
}
