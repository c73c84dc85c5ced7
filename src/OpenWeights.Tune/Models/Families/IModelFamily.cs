using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>A family of open-weight models: converts its config.json to a decoder config.</summary>
public interface IModelFamily
{
    /// <summary>The model_type in its config.json.</summary>
    string ModelType { get; }

    /// <summary>The class name that transformers writes to architectures.</summary>
    string Architecture { get; }

    /// <summary>Whether its activations exceed float16's maximum of 65,504, so that float16 cannot replace bfloat16.</summary>
    bool OverflowsInFloat16 => false;

    /// <summary>The decoder config described by the config.json.</summary>
    /// <exception cref="InvalidDataException">A setting is missing, invalid, or not supported.</exception>
    DecoderConfig Read(ConfigReader config);

    /// <summary>The config.json of a new model of the family.</summary>
    /// <param name="shape">Sizes of the model.</param>
    JsonObject NewConfig(ModelShape shape);
}
