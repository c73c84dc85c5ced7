using System.Text.Json.Nodes;
using OpenWeights.Formats.Families;

namespace OpenWeights.Tune.Models.Families;

/// <summary>A family of open-weight models: converts its config.json to a decoder config.</summary>
public interface IModelFamily
{
    /// <summary>Names of the family and defaults of its settings.</summary>
    FamilyFacts Facts { get; }

    /// <summary>The model_type in its config.json.</summary>
    string ModelType => Facts.ModelType;

    /// <summary>The decoder config described by the config.json.</summary>
    /// <exception cref="InvalidDataException">A setting is missing, invalid, or not supported.</exception>
    DecoderConfig Read(ConfigReader config);

    /// <summary>The config.json of a new model of the family.</summary>
    /// <param name="shape">Sizes of the model.</param>
    JsonObject NewConfig(ModelShape shape);
}
