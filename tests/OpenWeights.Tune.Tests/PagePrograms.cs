using OpenWeights.Tune.Adapters;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Extensions;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Training;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests;

/// <summary>Short programs of the pages that are not pieces of a sample or of a test: they are compiled here, word for word.</summary>
internal static class PagePrograms
{
    // docs/adapters.md
    internal static object RowsWithTheirOwnAdapters(AdapterSet adapters, CausalLanguageModel model, TextGenerator generator, Tensor ids, IReadOnlyList<int[]> prompts)
    {
        adapters.UseByRow();
        var input = ModelInput.Rows(ids) with { Adapters = ["mine", null, "other"] };
        var logits = model.Logits(model.call(input), input);
        var answers = generator.Continue(prompts, adapters: ["mine", null, "other"]);

        return (logits, answers);
    }

    // docs/library.md
    internal static RunConfig SettingsByName() => new()
    {
        Adapter = new AdapterSection { Type = "vera", TargetModules = ["q_proj", "v_proj"] }.With("r", 64),
        Training = new TrainingSection { Optimizer = "muon" }.With("muon.momentum", 0.9).With("muon.ns_steps", 6),
    };

    // docs/library.md
    internal static object AWholeRun(IRunListener listener, CancellationToken stop)
    {
        using var run = TrainingRun.Prepare(RunConfig.Load("train.yaml", "training.max_steps=100"), listener);
        var folder = run.Run(overwrite: false, command: "my program", stop);

        return folder ?? "";
    }
}

#pragma warning disable SA1402, CS1591, CA1062
// docs/library.md
public sealed class FocalLoss : TrainingObjective
{
    public override Tensor Loss(ObjectiveBatch batch) => batch.LogProbs.exp().neg().add(1).pow(2).mul(batch.LogProbs).sum().neg();
}
