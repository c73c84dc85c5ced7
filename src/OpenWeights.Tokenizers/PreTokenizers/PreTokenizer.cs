using System.Text;

namespace OpenWeights.Tokenizers;

/// <summary>A step that cuts a text into the pieces that the model then works on alone.</summary>
internal abstract class PreTokenizer
{
    /// <summary>Cuts every piece of the text.</summary>
    public abstract void Apply(PreTokenizedText text);

    /// <summary>Whether the step depends on where in the input a piece began.</summary>
    public virtual bool NeedsAlignment => false;
}

/// <summary>The main step of "ByteLevel": every UTF-8 byte of the text is replaced by its printable character.</summary>
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

/// <summary>"FixedLength": pieces of a fixed number of characters.</summary>
internal sealed class FixedLengthPreTokenizer(int length) : PreTokenizer
{
    public override void Apply(PreTokenizedText text)
    {
        foreach (var piece in text.Pieces)
        {
            var chars = text.Text.Chars.Slice(piece.Start, piece.Length);
            var start = 0;
            var characters = 0;
            for (var i = 0; i < chars.Length;)
            {
                _ = Rune.DecodeFromUtf16(chars[i..], out _, out var units);
                i += units;
                if (++characters == length || i == chars.Length)
                {
                    text.Add(piece.Start + start, i - start);
                    start = i;
                    characters = 0;
                }
            }
        }

        text.EndCut();
    }
}
