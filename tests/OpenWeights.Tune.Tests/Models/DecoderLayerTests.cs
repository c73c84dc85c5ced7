using System.Text.Json.Nodes;
using NUnit.Framework;
using OpenWeights.Tune.Configuration;
using OpenWeights.Tune.Decoding;
using OpenWeights.Tune.Decoding.Decode;
using OpenWeights.Tune.Layers;
using OpenWeights.Tune.Models;
using OpenWeights.Tune.Models.Families;
using OpenWeights.Tune.Tests.Models.Families;
using TorchSharp.Utils;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Tests.Models;

/// <summary>A decoder takes layers of any parts: another token mixer with a state of its own, one part alone, and both side by side.</summary>
internal sealed class DecoderLayerTests
{
    private const int Vocabulary = 32;

    [Test]
    public void A_mixer_with_a_state_of_its_own_gives_the_same_token_by_token_as_all_at_once()
    {
        using var model = Hybrid();
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var cache = new DecoderCache();
        var ids = arange(9, int64).view(1, -1);
        var whole = model.call(ModelInput.Rows(ids));
        foreach (var (start, count) in new[] { (0, 5), (5, 1), (6, 2), (8, 1) })
        {
            var positions = arange(start, start + count, int64).unsqueeze(0);
            var part = model.call(new ModelInput { InputIds = ids.narrow(1, start, count), PositionIds = positions, LongestPosition = start + count - 1, Cache = cache });
            Assert.That(Golden.LargestDifference(part, whole.narrow(1, start, count)), Is.LessThan(1e-5));
        }

        Assert.That(cache.Length, Is.EqualTo(9));
    }

    [Test]
    public void A_layer_that_is_computed_again_gives_the_same_gradients_whatever_its_mixer_is([Values] ActivationCheckpointing checkpointing)
    {
        var plain = Gradients(ActivationCheckpointing.None);
        var again = Gradients(checkpointing);
        Assert.That(again.Keys, Is.EquivalentTo(plain.Keys));
        Assert.That(plain.Keys, Has.Some.EqualTo("model.layers.0.running.proj.weight"));
        foreach (var (name, gradient) in plain)
        {
            Assert.That(Golden.LargestDifference(again[name], gradient), Is.LessThan(1e-6), name);
            Assert.That(gradient.abs().max().item<float>(), Is.GreaterThan(0), name);
        }
    }

    [Test]
    public void A_text_is_read_anew_where_a_mixer_cannot_go_back()
    {
        using var model = Hybrid();
        using var memory = new PromptCache();
        var generator = new TextGenerator(model, new GenerationOptions { MaxNewTokens = 6 });
        Assert.That(DecodeStep.Of(model, 1), Is.Null);
        _ = generator.Continue([1, 2, 3, 4], memory);
        Assert.That(generator.Continue([1, 2, 9], memory).OutputIds, Is.EqualTo(generator.Continue([[1, 2, 9]])[0].OutputIds));
    }

    [Test]
    public void Equal_prompts_are_read_once()
    {
        var calls = new List<(long Rows, long Tokens)>();
        using var model = Hybrid(calls);
        int[][] prompts = [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6], [1, 2, 3, 4], [5, 6]];
        _ = new TextGenerator(model, new GenerationOptions { MaxNewTokens = 3 }).Continue(prompts);
        Assert.That(calls, Is.EqualTo(new[] { (2L, 4L), (5L, 1L), (5L, 1L) }));
    }

    [Test]
    public void Parts_side_by_side_read_the_same_states()
    {
        using var weights = new VariedWeightSource(5);
        var config = Config() with { ParallelParts = true, NormPlacement = new NormPlacement("input_layernorm", null, "post_attention_layernorm", null), ResidualMultiplier = 0.5 };
        using var layer = new DecoderLayer(config.LayerSettings(0), weights, "layer");
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var (states, context) = (randn([1, 6, 16]), new LayerContext());
        var (mixer, feedForward) = (layer.Mixer!, layer.FeedForward!);
        var expected = states.add(mixer.Part.call(mixer.Before!.call(states), context).mul(0.5)).add(feedForward.Part.call(feedForward.Before!.call(states), context).mul(0.5));
        Assert.That(Golden.LargestDifference(layer.call(states, context), expected), Is.LessThan(1e-6));
    }

    private static Dictionary<string, Tensor> Gradients(ActivationCheckpointing checkpointing)
    {
        using var model = Hybrid();
        model.Stack.ActivationCheckpointing = checkpointing;
        foreach (var (_, parameter) in model.named_parameters())
        {
            parameter.requires_grad = true;
        }

        using var scope = NewDisposeScope();
        model.Logits(model.call(ModelInput.Rows(arange(7, int64).view(1, -1)))).square().mean().backward();
        return model.named_parameters().Where(static p => p.parameter.grad is not null).ToDictionary(static p => p.name, static p => p.parameter.grad!.clone().DetachFromDisposeScope());
    }

    // The running mean with a feed-forward, the running mean alone, a feed-forward alone, and attention.
    private static CausalLanguageModel Hybrid(List<(long Rows, long Tokens)>? calls = null)
    {
        using var weights = new VariedWeightSource(3);
        var config = Config();
        var own = new LayerConfig { Rope = null, Mixer = new RunningMeanSettings() };
        var watched = own with { Mixer = new RunningMeanSettings { Calls = calls } };
        return new CausalLanguageModel(
            config with { Layers = [watched, own with { Parts = LayerParts.MixerOnly }, config.Layer(0) with { Parts = LayerParts.FeedForwardOnly }, config.Layer(0)] }, weights);
    }

    private static DecoderConfig Config()
    {
        var json = JsonNode.Parse(
            $$"""
            {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 4, "vocab_size": {{Vocabulary}},
             "max_position_embeddings": 64, "tie_word_embeddings": false}
            """)!.AsObject();
        return FamilyRegistry.Read(json, "config.json");
    }

    private sealed record RunningMeanSettings : MixerSettings
    {
        public override string ModuleName { get; init; } = "running";

        internal List<(long Rows, long Tokens)>? Calls { get; init; }

        internal override TokenMixer Make(IWeightSource weights, string name) => new RunningMean(weights, name, Calls);
    }

    /// <summary>Each token's mean with all before it, through a linear layer.</summary>
    private sealed class RunningMean : TokenMixer
    {
        [ComponentName(Name = "proj")]
        private readonly LinearLayer _projection;

        private readonly List<(long Rows, long Tokens)>? _calls;

        internal RunningMean(IWeightSource weights, string name, List<(long Rows, long Tokens)>? calls)
            : base(nameof(RunningMean))
        {
            _calls = calls;
            var hidden = new Dimension("hidden_size", 16);
            _projection = LinearLayer.Take(weights, $"{name}.proj", hidden, hidden, hasBias: false);
            RegisterComponents();
        }

        internal override KeptElements Kept => new(new TokenMemory(16), [new KeptInput([_projection], 16, IsMadeAgain: false)], [TokenMemory.OfLinear(16, 16)]);

        internal override LayerState NewState() => new RunningSum();

        internal override long StateBytes(CachedTexts texts, long size) => texts.Rows * 16 * size;

        internal override Tensor Run(Tensor states, Norm? norm, LayerContext context)
        {
            using var scope = NewDisposeScope();
            _calls?.Add((states.size(0), states.size(1)));
            var input = norm?.call(states) ?? states;
            var held = (RunningSum?)context.State;
            var sums = input.cumsum(1);
            if (held?.Sum is { } before)
            {
                sums = sums.add(before);
            }

            var past = held?.Count ?? 0;
            var counts = arange(past + 1, past + 1 + input.size(1), float32).view(1, -1, 1);
            held?.Add(sums.narrow(1, input.size(1) - 1, 1), (int)input.size(1));
            return _projection.call(sums.div(counts)).MoveToOuterDisposeScope();
        }
    }

    private sealed class RunningSum : LayerState
    {
        internal Tensor? Sum { get; private set; }

        internal int Count { get; private set; }

        public override long ByteLength => Sum is null ? 0 : Sum.numel() * Sum.element_size();

        internal override bool CanTruncate(int length) => false;

        internal override void Truncate(int length) => throw new InvalidOperationException("a sum does not know its terms");

        internal override void Select(long[] rows) => Sum = Chosen(Sum, rows);

        internal void Add(Tensor sum, int tokens)
        {
            Sum?.Dispose();
            Sum = sum.clone().DetachFromDisposeScope();
            Count += tokens;
        }

        protected override void Dispose(bool disposing) => Sum?.Dispose();
    }
}
