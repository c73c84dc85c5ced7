using System.Text.Json.Nodes;

namespace OpenWeights.Tune.Models.Families;

/// <summary>A family of open-weight models: how its config.json reads in the decoder's terms.</summary>
public interface IModelFamily
{
    /// <summary>The model_type of its config.json.</summary>
    string ModelType { get; }

    /// <summary>The class name that transformers writes into architectures.</summary>
    string Architecture { get; }

    /// <summary>Whether what its models compute grows beyond float16's largest number, 65,504, so that float16 is no stead for bfloat16.</summary>
    bool OverflowsInFloat16 => false;

    /// <summary>The decoder that the config asks for.</summary>
    /// <exception cref="InvalidDataException">A setting is missing, wrong or asks for what the family's maths here lacks.</exception>
    DecoderConfig Read(ConfigReader config);

    /// <summary>The config.json of a new model of the family.</summary>
    /// <param name="shape">Its sizes.</param>
    JsonObject NewConfig(ModelShape shape);
}
