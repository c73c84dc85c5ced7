using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Optimizers;

namespace OpenWeights.Tune.Training;

/// <summary>Factors of the learning rate by parameter name (training.rates).</summary>
internal static class NamedRates
{
    private const int Examples = 3;

    /// <summary>The parameters with the factor of the first pattern that matches each, besides the factor that it has.</summary>
    /// <param name="parameters">The trained parameters.</param>
    /// <param name="rates">Factors by pattern.</param>
    /// <exception cref="ConfigException">A pattern matches no parameter.</exception>
    internal static IReadOnlyList<TrainedParameter> Apply(IReadOnlyList<TrainedParameter> parameters, IReadOnlyDictionary<string, double> rates)
    {
        if (rates.Count == 0)
        {
            return parameters;
        }

        var unused = rates.Keys.Where(pattern => !parameters.Any(p => NamePattern.Matches(pattern, p.Name))).ToList();
        if (unused.Count > 0)
        {
            var names = string.Join(", ", parameters.Take(Examples).Select(static p => p.Name));
            throw new ConfigException([.. unused.Select(pattern => new ConfigProblem("", $"training.rates.{pattern}", $"no trained parameter has this in its name; the names are such as {names}."))]);
        }

        return [.. parameters.Select(p => p with { RateFactor = p.RateFactor * Factor(p.Name, rates) })];
    }

    private static double Factor(string name, IReadOnlyDictionary<string, double> rates)
    {
        foreach (var (pattern, factor) in rates)
        {
            if (NamePattern.Matches(pattern, name))
            {
                return factor;
            }
        }

        return 1;
    }
}
