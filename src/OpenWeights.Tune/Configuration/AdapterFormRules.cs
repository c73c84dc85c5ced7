using System.Globalization;

namespace OpenWeights.Tune.Configuration;

/// <summary>Rules of the settings of LoRA's forms and starts.</summary>
internal static class AdapterFormRules
{
    private const string Iterated = "pissa_niter_";
    private static readonly string[] s_starts = ["true", "gaussian", "pissa", "olora", "orthogonal", "mica", "eva", "corda", "loftq", "lora_ga"];

    /// <summary>The problems, with the names of the settings.</summary>
    /// <param name="adapter">The section.</param>
    internal static IEnumerable<(string Key, string Message)> Of(AdapterSection adapter)
    {
        var start = adapter.InitLoraWeights;
        var isIterated = start.StartsWith(Iterated, StringComparison.Ordinal) && int.TryParse(start.AsSpan(Iterated.Length), NumberStyles.None, CultureInfo.InvariantCulture, out _);
        if (!isIterated && !s_starts.Contains(start))
        {
            yield return ("adapter.init_lora_weights", $"'{start}' is not a start; valid are true, gaussian, pissa, pissa_niter_<iterations>, olora, orthogonal, mica, eva, corda, loftq and lora_ga.{Spelling.DidYouMean(start, s_starts)}");
        }

        if (adapter.UseDora && (isIterated || start is "pissa" or "olora" or "corda" or "loftq" or "lora_ga"))
        {
            yield return ("adapter.use_dora", $"use_dora cannot be combined with init_lora_weights: {start}, which changes the weight; choose one of them.");
        }

        for (var i = 0; i < adapter.LayerReplication.Count; i++)
        {
            if (adapter.LayerReplication[i] is not [>= 0, var end] || end <= adapter.LayerReplication[i][0])
            {
                yield return (string.Create(CultureInfo.InvariantCulture, $"adapter.layer_replication.{i}"), $"[{string.Join(", ", adapter.LayerReplication[i])}] is not a range of layers; write [first layer, end], such as [0, 4] for layers 0 to 3.");
            }
        }

        if (adapter.LoftqConfig.LoftqBits is not (4 or 8))
        {
            yield return ("adapter.loftq_config.loftq_bits", "4 (NF4) or 8 (int8) is expected.");
        }
    }
}
