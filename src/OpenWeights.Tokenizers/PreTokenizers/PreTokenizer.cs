namespace OpenWeights.Tokenizers;

/// <summary>A step that cuts a text into the pieces that the model then works on alone.</summary>
internal abstract class PreTokenizer
{
    /// <summary>Cuts every piece of the text.</summary>
    public abstract void Apply(PreTokenizedText text);

    /// <summary>Whether the step looks at where in the input a piece began.</summary>
    public virtual bool NeedsAlignment => false;
}
