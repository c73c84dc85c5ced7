using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>A family of open-weight models: how its config.json reads in the decoder's terms.</summary>
public interface IModelFamily
{
    /// <summary>What of the family is the same wherever it is read and written.</summary>
    FamilyFacts Facts { get; }

    /// <summary>The model_type of its config.json.</summary>
    string ModelType => Facts.ModelType;

    /// <summary>The decoder that the config asks for.</summary>
    /// <exception cref="InvalidDataException">A setting is missing, wrong or asks for what the family's maths here lacks.</exception>
    DecoderConfig Read(ConfigReader config);

    /// <summary>The config.json of a new model of the family.</summary>
    /// <param name="shape">Its sizes.</param>
    JsonObject NewConfig(ModelShape shape);
}
