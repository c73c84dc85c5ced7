namespace OpenWeights.Tokenizers;

/// <summary>The <c>add_prefix_space</c> of "ByteLevel": a space before every piece that does not begin with one.</summary>
internal sealed class PrefixSpacePreTokenizer : PreTokenizer
{
    public override void Apply(PreTokenizedText text)
    {
        var output = text.BeginRewrite();
        var source = text.Text.AsSource();
        foreach (var piece in text.Pieces)
        {
            var start = output.Length;
            if (source.Chars[piece.Start] != ' ')
            {
                var isPair = char.IsHighSurrogate(source.Chars[piece.Start]) && piece.Length > 1;
                output.Append(' ', source.InputStart(piece.Start), source.InputEnd(isPair ? piece.Start + 1 : piece.Start));
            }

            output.Append(source, piece.Start, piece.Length);
            text.Add(start, output.Length - start);
        }

        text.EndRewrite();
    }
}
