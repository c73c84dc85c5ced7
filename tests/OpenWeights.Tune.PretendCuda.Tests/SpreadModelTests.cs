using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Data.Batches;
using OpenWeights.Tune.Data.Tokens;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Objectives;
using OpenWeights.Tune.Tests.Models.Families;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace OpenWeights.Tune.PretendCuda.Tests;

/// <summary>Models of every family whose layers are on two devices compute what they compute on one.</summary>
[TestFixtureSource(typeof(FamilyCases), nameof(FamilyCases.Names))]
internal sealed class SpreadModelTests(string name)
{
    private static readonly Device[] s_devices = [new(TorchSharp.DeviceType.CUDA, 0), new(TorchSharp.DeviceType.CUDA, 1)];

    [TestCase(ActivationCheckpointing.None)]
    [TestCase(ActivationCheckpointing.Block)]
    public void Losses_and_gradients_are_those_of_one_device(ActivationCheckpointing checkpointing)
    {
        using var alone = FamilyCases.Make(name);
        using var spread = Spread(alone);
        var (loss, gradients) = Gradients(alone, checkpointing);
        var (spreadLoss, spreadGradients) = Gradients(spread, checkpointing);
        Assert.That(spreadLoss, Is.EqualTo(loss).Within(1e-6 * Math.Abs(loss)));
        Assert.That(spreadGradients.Keys, Is.EqualTo(gradients.Keys));
        foreach (var (parameter, expected) in gradients)
        {
            Assert.That(spreadGradients[parameter].sub(expected).abs().max().ToDouble(), Is.LessThanOrEqualTo(1e-6 * Math.Max(1, expected.abs().max().ToDouble())), parameter);
        }
    }

    [Test]
    public void Texts_go_on_from_a_cache_on_both_devices()
    {
        using var alone = FamilyCases.Make(name);
        using var spread = Spread(alone);
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        int[] ids = [.. Enumerable.Range(0, 30).Select(static i => i * 37 % FamilyCases.Vocabulary)];
        List<Tensor> Logits(CausalLanguageModel model)
        {
            using var cache = new DecoderCache();
            var (read, found) = (0, new List<Tensor>());
            foreach (var added in new[] { 9, 1, 1 })
            {
                if (!model.Stack.Continues(cache, read + added - 1))
                {
                    break;
                }

                var input = new ModelInput
                {
                    InputIds = tensor([.. ids[read..(read + added)].Select(static i => (long)i)], [1, added], device: model.Device),
                    PositionIds = arange(read, read + added, 1, int64, model.Device).unsqueeze(0),
                    LongestPosition = read + added - 1,
                    Cache = cache,
                };
                found.Add(model.Logits(model.call(input)).cpu());
                read += added;
            }

            return found;
        }

        foreach (var (one, two) in Logits(alone).Zip(Logits(spread)))
        {
            Assert.That(two.sub(one).abs().max().ToDouble(), Is.LessThanOrEqualTo(1e-6 * Math.Max(1, one.abs().max().ToDouble())));
        }
    }

    // The same weights, the last layers on the second device.
    private static CausalLanguageModel Spread(CausalLanguageModel alone)
    {
        using var nothing = no_grad();
        var placement = new LayerPlacement(s_devices, [1, alone.Config.LayerCount - 1], alone.Config);
        var model = new CausalLanguageModel(alone.Config, new Copies(alone, placement)) { Placement = placement, RouterLossWeight = alone.RouterLossWeight };
        Assert.That(model.named_parameters().Select(static p => p.parameter.device_index).Distinct().Count(), Is.EqualTo(2), "both devices have weights");
        return model;
    }

    private static (double Loss, SortedDictionary<string, Tensor> Gradients) Gradients(CausalLanguageModel model, ActivationCheckpointing checkpointing)
    {
        foreach (var (_, parameter) in model.named_parameters())
        {
            _ = parameter.requires_grad_();
        }

        using var scope = NewDisposeScope();
        model.Stack.ActivationCheckpointing = checkpointing;
        var batch = TokenBatch.Of([Row([5, 9, 2, 7, 7, 31, 12, 8, 1, 30, 22], [4, 7]), Row([1, 2, 3, 4], [4])], padId: 0, model.Device);
        var loss = new SupervisedObjective().LossSum(model, batch);
        OpenWeights.Tune.Torch.BackwardPass.Run([loss]);
        var found = new SortedDictionary<string, Tensor>(StringComparer.Ordinal);
        foreach (var (parameterName, parameter) in model.named_parameters())
        {
            Assert.That(parameter.grad?.device_index ?? parameter.device_index, Is.EqualTo(parameter.device_index), parameterName);
            found.Add(parameterName, (parameter.grad ?? zeros_like(parameter)).cpu().DetachFromDisposeScope());
        }

        return (loss.ToDouble(), found);
    }

    private static TokenRow Row(int[] ids, int[] documents) => new(ids, ids, documents, "row");

    private sealed class Copies(CausalLanguageModel from, LayerPlacement placement) : IWeightSource
    {
        private readonly Dictionary<string, Tensor> _tensors = from.StoredTensors.ToDictionary(static t => t.Name, static t => t.Tensor);

        public Parameter Take(string name, InitialWeight initial, params ReadOnlySpan<Dimension> shape)
        {
            using var scope = NewDisposeScope();
            var parameter = new Parameter(_tensors[name].detach().to(placement.Of(name), copy: true), requires_grad: false);
            _ = parameter.DetachFromDisposeScope();
            return parameter;
        }
    }
}
