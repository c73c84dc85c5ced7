namespace OpenWeights.Tokenizers;

/// <summary>The heart of "ByteLevel": every UTF-8 byte of the text becomes the character that stands for it.</summary>
internal sealed class ByteLevelPreTokenizer : PreTokenizer
{
    public override void Apply(PreTokenizedText text)
    {
        var output = text.BeginRewrite();
        var source = text.Text.AsSource();
        foreach (var piece in text.Pieces)
        {
            var start = output.Length;
            ByteLevelWriter.Write(source, piece.Start, piece.Start + piece.Length, output);
            text.Add(start, output.Length - start);
        }

        text.EndRewrite();
    }
}
