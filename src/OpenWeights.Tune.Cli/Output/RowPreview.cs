using System.Globalization;
using System.Text;
using OpenWeights.Tokenizers;
using OpenWeights.Tune.Data.Tokens;

namespace OpenWeights.Tune.Cli.Output;

/// <summary>
/// Shows rows as the model sees them, with special tokens; trained tokens are green on a terminal and in brackets elsewhere.
/// </summary>
/// <param name="output">Destination.</param>
/// <param name="tokenizer">Decodes tokens; null to print their ids.</param>
/// <param name="inColour">Whether trained tokens are colored.</param>
internal sealed class RowPreview(TextWriter output, Tokenizer? tokenizer, bool inColour)
{
    private const int MaxDocuments = 8;
    private readonly (string Begin, string End) _mark = inColour ? ("\u001b[32m", "\u001b[0m") : ("[", "]");

    /// <summary>Whether stdout supports colors.</summary>
    internal static bool HasColour => !Console.IsOutputRedirected && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR"));

    internal void Write(IReadOnlyList<TokenRow> rows, int count)
    {
        output.WriteLine($"rows as the model reads them; what is trained {(inColour ? "is " + _mark.Begin + "green" + _mark.End : "stands in [brackets]")}:");
        foreach (var row in rows.Take(count))
        {
            Write(row);
        }
    }

    internal void Write(TokenRow row)
    {
        if (row.Documents.Length == 1)
        {
            output.WriteLine($"  {row.Source} ({row.Ids.Length} tokens, {row.CountTargets()} trained{Role(row)})");
            output.WriteLine($"    {Text(row, 0, row.Ids.Length)}");
            return;
        }

        if (row.Role == RowRole.Related)
        {
            Texts(row);
            return;
        }

        output.WriteLine($"  {row.Documents.Length} rows packed into one ({row.Ids.Length} tokens, {row.CountTargets()} trained); they do not attend to each other:");
        var (start, sources) = (0, row.Source.Split("; "));
        for (var i = 0; i < Math.Min(row.Documents.Length, MaxDocuments); i++)
        {
            output.WriteLine($"    {(sources.Length == row.Documents.Length ? sources[i] : $"row {i + 1}")} ({row.Documents[i]} tokens)");
            output.WriteLine($"      {Text(row, start, row.Documents[i])}");
            start += row.Documents[i];
        }

        if (row.Documents.Length > MaxDocuments)
        {
            output.WriteLine($"    ... and {row.Documents.Length - MaxDocuments} more");
        }
    }

    /// <summary>The text of a part of a row, decoded in context.</summary>
    internal string Text(TokenRow row, int start, int length)
    {
        var text = new StringBuilder();
        var decoder = tokenizer?.CreateStreamingDecoder(skipSpecialTokens: false);
        var trained = false;
        for (var i = start; i < start + length; i++)
        {
            if ((row.Labels[i] != TokenRow.Ignored) != trained)
            {
                trained = !trained;
                _ = text.Append(trained ? _mark.Begin : _mark.End);
            }

            _ = text.Append(decoder?.Add(row.Ids[i]) ?? $"{row.Ids[i]} ");
        }

        return text.Append(decoder?.Finish()).Append(trained ? _mark.End : "").Replace("\r", "\\r").Replace("\n", "\\n").ToString();
    }

    private static string Role(TokenRow row) => row.Role switch
    {
        RowRole.Plain => "",
        RowRole.Classified => $", class {row.Label}",
        RowRole.Chosen when row.Margin != 0 => string.Create(CultureInfo.InvariantCulture, $", chosen, margin {row.Margin}"),
        var role => $", {role.ToString().ToLowerInvariant()}",
    };

    // An anchor, its positive and its negatives.
    private void Texts(TokenRow row)
    {
        output.WriteLine($"  {row.Source} ({row.Ids.Length} tokens)");
        var start = 0;
        for (var i = 0; i < row.Documents.Length; i++)
        {
            output.WriteLine($"    {(i == 0 ? "anchor" : i == 1 ? "positive" : "negative")} ({row.Documents[i]} tokens): {Text(row, start, row.Documents[i])}");
            start += row.Documents[i];
        }
    }
}
