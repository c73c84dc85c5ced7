namespace OpenWeights.Tokenizers;

/// <summary>A step that rewrites text before it is cut.</summary>
internal abstract class Normalizer
{
    /// <summary>Whether the text surely stays as it is; false where that is not known cheaply.</summary>
    public virtual bool Leaves(ReadOnlySpan<char> text) => false;

    /// <summary>Writes the rewritten source.</summary>
    public abstract void Write(in SourceText source, AlignedText output);
}
