using OpenWeights.Tune.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Export;

/// <summary>What a written model computes beside what it was made from, over a sample of tokens.</summary>
/// <param name="Difference">The largest difference of two logits.</param>
/// <param name="Largest">The largest logit, to compare it with.</param>
/// <param name="Agreeing">The positions at which both have the same likeliest token.</param>
/// <param name="Positions">The positions of the sample.</param>
public sealed record ExportVerification(double Difference, double Largest, int Agreeing, int Positions)
{
    private const int SampleLength = 64;

    /// <summary>Runs both models.</summary>
    /// <param name="original">The base model with its adapter on.</param>
    /// <param name="folder">The written model, as a folder.</param>
    public static ExportVerification Of(CausalLanguageModel original, string folder)
    {
        ArgumentNullException.ThrowIfNull(original);
        using var written = ModelLoader.Load(folder, original.DType, original.Device);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var tokens = Math.Min(SampleLength, original.Config.MaxPositions);
        var ids = new long[tokens];
        for (var i = 0; i < ids.Length; i++)
        {
            // Any tokens will do, as long as they are many different ones.
            ids[i] = (i * 7919L) % original.Config.VocabularySize;
        }

        var expected = Logits(original, ids);
        var actual = Logits(written.Model, ids).to(original.Device);
        return new ExportVerification(
            actual.sub(expected).abs().max().ToDouble(),
            expected.abs().max().ToDouble(),
            (int)actual.argmax(-1).eq(expected.argmax(-1)).sum().item<long>(),
            tokens);
    }

    private static Tensor Logits(CausalLanguageModel model, long[] ids) =>
        model.Logits(model.call(ModelInput.Rows(tensor(ids, [1, ids.Length], device: model.Device)))).squeeze(0);
}
