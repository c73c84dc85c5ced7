using OpenWeights.Formats.Gguf;

namespace OpenWeights.Tune.Models;

/// <summary>What people give as a model: a folder, or a GGUF file, which is read as a folder.</summary>
public static class ModelPath
{
    /// <summary>The folder to read a model from.</summary>
    /// <param name="model">A folder or a GGUF file.</param>
    /// <exception cref="InvalidDataException">The GGUF file cannot be read.</exception>
    public static string Resolve(string model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return File.Exists(model) && GgufFile.IsGguf(model) ? GgufFolder.Unpack(model) : model;
    }
}
