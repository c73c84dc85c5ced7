using System.Text;
using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Data.Files;

/// <summary>A row that is plain text.</summary>
/// <param name="utf8">Its bytes.</param>
internal sealed class TextContent(byte[] utf8) : IRawContent
{
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public int Size => utf8.Length;

    public JsonObject Parse()
    {
        try
        {
            return new JsonObject { ["text"] = s_strict.GetString(utf8) };
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"this text is not valid UTF-8 (byte {e.Index + 1}); save the file as UTF-8.", e);
        }
    }
}
