using System.Globalization;

namespace OpenWeights.Tune.Configuration;

/// <summary>A config that ships with the program, for a common model and a size of memory.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Text">The YAML text.</param>
internal sealed record Recipe(string Name, string Text)
{
    private const string Prefix = "OpenWeights.Tune.Recipes.";
    private const string Memory = "# Memory: ";
    private static readonly Lazy<IReadOnlyList<Recipe>> s_all = new(Load);

    /// <summary>All recipes, by memory and name.</summary>
    public static IReadOnlyList<Recipe> All => s_all.Value;

    /// <summary>What it does, in a sentence: the first line of the text.</summary>
    public string Title => Text.Split('\n')[0].TrimStart('#', ' ').TrimEnd();

    /// <summary>Memory that the run needs with rows of the maximum length, in GiB.</summary>
    public int MemoryGiB => int.Parse(Text.Split('\n').First(static l => l.StartsWith(Memory, StringComparison.Ordinal))[Memory.Length..].Split(' ')[0], CultureInfo.InvariantCulture);

    /// <summary>The model, by its name on the Hub.</summary>
    public string Model => RunConfigFile.Parse($"{Name}.yaml", Text, []).Written.Model.Path;

    /// <summary>A recipe by name.</summary>
    /// <param name="name">The name, in any case.</param>
    /// <exception cref="ConfigException">There is no such recipe; the message names the nearest.</exception>
    public static Recipe Find(string name) => All.FirstOrDefault(r => r.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
        ?? throw new ConfigException([new ConfigProblem("", "", $"there is no recipe '{name}'.{Spelling.DidYouMean(name, All.Select(static r => r.Name))} `owt recipes list` lists them.")]);

    private static IReadOnlyList<Recipe> Load()
    {
        var assembly = typeof(Recipe).Assembly;
        return [.. assembly.GetManifestResourceNames().Where(static n => n.StartsWith(Prefix, StringComparison.Ordinal)).Select(name =>
        {
            using var reader = new StreamReader(assembly.GetManifestResourceStream(name)!);
            return new Recipe(name[Prefix.Length..], reader.ReadToEnd().ReplaceLineEndings("\n"));
        }).OrderBy(static r => r.MemoryGiB).ThenBy(static r => r.Name, StringComparer.Ordinal)];
    }
}
