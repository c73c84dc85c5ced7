namespace OpenWeights.Tokenizers.Templates.Values;

/// <summary>Stands for "no value at all": a variable that was never set, an argument that was not passed.</summary>
internal sealed class Missing
{
    public static readonly Missing Value = new();

    private Missing()
    {
    }
}
