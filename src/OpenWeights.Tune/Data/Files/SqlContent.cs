using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row of a Parquet file or query, in DuckDB's JSON.</summary>
/// <param name="utf8">Its bytes.</param>
internal sealed class SqlContent(byte[] utf8) : IRawContent
{
    public int Size => utf8.Length;

    public JsonObject Parse() => new JsonContent(WithoutInfinity(utf8), "this row").Parse();

    // DuckDB writes NaN and infinity, which are not JSON; NaN, which pandas uses for missing numbers, becomes null.
    private static byte[] WithoutInfinity(byte[] json)
    {
        if (json.AsSpan().IndexOf("NaN"u8) < 0 && json.AsSpan().IndexOf("Infinity"u8) < 0)
        {
            return json;
        }

        using var clean = new MemoryStream(json.Length);
        for (var (at, inText) = (0, false); at < json.Length; at++)
        {
            var rest = json.AsSpan(at);
            var length = inText ? 0 : rest.StartsWith("NaN"u8) ? 3 : rest.StartsWith("Infinity"u8) ? 8 : rest.StartsWith("-Infinity"u8) ? 9 : 0;
            if (length > 0)
            {
                clean.Write("null"u8);
                at += length - 1;
                continue;
            }

            clean.WriteByte(json[at]);
            if (inText && json[at] == '\\')
            {
                clean.WriteByte(json[++at]);
            }
            else if (json[at] == '"')
            {
                inText = !inText;
            }
        }

        return clean.ToArray();
    }
}
