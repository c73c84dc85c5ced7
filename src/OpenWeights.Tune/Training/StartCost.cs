using System.Globalization;
using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Adapters.Starts;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;

namespace OpenWeights.Tune.Training;

/// <summary>What the start of a LoRA adapter costs before the first step (init_lora_weights).</summary>
internal sealed record StartCost
{
    // A decomposition takes about this many operations per element and singular value, and a core this many a second.
    private const double DecompositionWork = 20;
    private const double Speed = 5e9;

    // The forward pass is about a third of a step.
    private const double ForwardShare = 1.0 / 3;

    /// <summary>PEFT's name of the start.</summary>
    public required string Name { get; init; }

    /// <summary>Number of training rows that it reads; 0 for none.</summary>
    public required int Rows { get; init; }

    /// <summary>The time of its passes over these rows, in steps of the run.</summary>
    public required double Steps { get; init; }

    /// <summary>Number of weights that it decomposes.</summary>
    public required int Decompositions { get; init; }

    /// <summary>About how long the decompositions take, in seconds.</summary>
    public required double Seconds { get; init; }

    /// <summary>Memory besides the model's and the adapter's, in bytes.</summary>
    public required long Bytes { get; init; }

    /// <summary>Whether it computes gradients, so that activations are kept.</summary>
    public required bool HasBackward { get; init; }

    /// <summary>The cost in words.</summary>
    public string Text
    {
        get
        {
            string[] parts =
            [
                .. Rows == 0 ? Array.Empty<string>() : [string.Create(CultureInfo.InvariantCulture, $"{Rows} training rows, in the time of about {Math.Max(1, Math.Ceiling(Steps)):0} steps")],
                .. Decompositions == 0 ? Array.Empty<string>() : [string.Create(CultureInfo.InvariantCulture, $"{Decompositions} decompositions, about {(Seconds < 1 ? "a second" : $"{Seconds:0} s")}")],
                string.Create(CultureInfo.InvariantCulture, $"{Math.Max(1, Bytes >> 20):N0} MiB more memory until then"),
            ];
            return $"{Name}: {string.Join("; ", parts)}";
        }
    }

    /// <summary>The cost of an adapter's start; null for random numbers and zeros.</summary>
    /// <param name="model">The base model, or its outline.</param>
    /// <param name="settings">The adapter's settings.</param>
    /// <param name="rows">Number of rows that a start may read.</param>
    /// <param name="training">Settings of the training.</param>
    internal static StartCost? Of(CausalLanguageModel model, LoraConfig settings, int rows, TrainingSection training)
    {
        if (settings.Init is LoraInit.Kaiming or LoraInit.Gaussian or LoraInit.Orthogonal && settings.Kasa is null)
        {
            return null;
        }

        var layers = model.AdaptableModules.Where(m => m.Module is LinearLayer && AdapterTargets.IsAdapted(model, m, settings)).Select(m => (m.Name, Layer: (LinearLayer)m.Module)).ToList();
        var largest = layers.Select(static l => l.Layer.InFeatures * l.Layer.OutFeatures).DefaultIfEmpty(0).Max();
        var read = LoraStarts.NeedsData(settings.Init) ? rows : 0;
        var passes = settings.Init == LoraInit.LoraGa ? 1 : settings.Init == LoraInit.Eva ? 2 * ForwardShare : ForwardShare;
        var isShort = settings.Init is LoraInit.Eva or LoraInit.LoraGa || settings.PissaIterations is not null;
        var iterations = settings.Init == LoraInit.Loftq ? settings.Loftq.Iterations : 1;
        var work = layers.Sum(l => (double)l.Layer.InFeatures * l.Layer.OutFeatures * (isShort ? 8 * settings.RankOf(l.Name) : iterations * Math.Min(l.Layer.InFeatures, l.Layer.OutFeatures)));
        return new StartCost
        {
            Name = settings.Kasa is not null ? "kasa_config" : LoraStarts.Name(settings),
            Rows = read,
            HasBackward = settings.Init == LoraInit.LoraGa,
            Steps = passes * read / Math.Max(1, training.RowsAtOnce * training.GradientAccumulationSteps),
            Decompositions = settings.Init == LoraInit.Eva ? 0 : layers.Count * iterations,
            Seconds = settings.Init == LoraInit.Eva ? 0 : DecompositionWork * work / (Speed * Math.Max(1, Environment.ProcessorCount / 2)),
            Bytes = (4 * 4 * largest) + settings.Init switch
            {
                // Each distinct input has its covariance, of which most layers have four.
                LoraInit.Corda => 4 * layers.Sum(static l => l.Layer.InFeatures * l.Layer.InFeatures),
                LoraInit.LoraGa => 4 * layers.Sum(static l => l.Layer.InFeatures * l.Layer.OutFeatures),
                LoraInit.Eva => layers.Sum(l => 3L * 8 * l.Layer.InFeatures * (long)Math.Ceiling(settings.Eva.Rho * settings.RankOf(l.Name))),
                _ => 0,
            },
        };
    }
}
