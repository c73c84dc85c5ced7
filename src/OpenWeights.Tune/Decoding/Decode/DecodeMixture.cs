using System.Runtime.Intrinsics;
using OpenWeights.Tune.Kernels;
using OpenWeights.Tune.Layers.Experts;

namespace OpenWeights.Tune.Decoding.Decode;

/// <summary>
/// A mixture of experts in a decode step. The chosen experts of all rows are sorted by expert, so that each expert's weights are read once; its rows, with
/// what they become, follow each other in buffers.
/// </summary>
internal sealed unsafe class DecodeMixture : IDecodePart
{
    // Parts per thread, so that threads finish at about the same time; and outputs of a part at least.
    private const int PartsOfThread = 8;
    private const nint LeastOutputs = 32;

    private readonly ExpertSettings _settings;
    private readonly DecodeRouter _router;
    private readonly DecodeExperts _first;
    private readonly DecodeExperts _down;
    private readonly (IDecodePart Part, DecodeProducts? Gate)? _shared;
    private readonly int _perToken;
    private readonly DecodeBuffer _input;
    private readonly DecodeBuffer _inner;
    private readonly DecodeBuffer _active;
    private readonly DecodeBuffer _output;
    private readonly DecodeBuffer _gates;

    // Of each row's choices: the expert, its weight, and where the selection is in the order of the experts.
    private readonly int[] _chosen;
    private readonly float[] _weights;
    private readonly int[] _places;
    private readonly List<(int Expert, nint Start, nint Count)> _ranges = [];

    private DecodeMixture(MixtureSettings settings, DecodeRouter router, DecodeExperts first, DecodeExperts down, (IDecodePart, DecodeProducts?)? shared, nint rows)
    {
        (_settings, _router, _first, _down, _shared, _perToken) = (settings.Experts, router, first, down, shared, settings.ExpertsPerToken);
        var selections = rows * _perToken;
        (_chosen, _weights, _places) = (new int[selections], new float[selections], new int[selections]);
        (_input, _inner) = (new DecodeBuffer(selections * Hidden), new DecodeBuffer(selections * first.Outputs));
        (_active, _output, _gates) = (new DecodeBuffer(selections * Inner), new DecodeBuffer(selections * Hidden), new DecodeBuffer(rows));
    }

    /// <inheritdoc/>
    public int Stages => 4 + (_shared?.Part.Stages ?? 0);

    /// <inheritdoc/>
    public IReadOnlyList<nint> Widths => _shared?.Part.Widths ?? [];

    private nint Hidden => _settings.HiddenSize;

    private nint Inner => (nint)_settings.Inner.Size;

    /// <summary>The mixture of a module; null if it is not supported: with low-rank updates of experts, weighted inputs, or a space of its own.</summary>
    internal static DecodeMixture? Of(MixtureOfExperts module, DecodePlan plan)
    {
        var settings = module.Settings;
        if (settings is { ScalesInput: true } or { Latent: not null } || (settings.Experts.Clamp is null && !DecodeMath.Serves(settings.Experts.Activation)) || (settings.Experts is { Clamp: null, IsInterleaved: true })
            || DecodeRouter.Of(module.Router, plan.Rows, plan.DType) is not { } router
            || DecodeExperts.Of(module.Experts.First, plan.DType) is not { } first || DecodeExperts.Of(module.Experts.Down, plan.DType) is not { } down)
        {
            return null;
        }

        if (module.Shared is not { } block)
        {
            return new DecodeMixture(settings, router, first, down, null, plan.Rows);
        }

        var gate = module.SharedGate is { } layer ? plan.Products(layer) : null;
        return plan.Part(block) is { } shared && gate is null == module.SharedGate is null ? new DecodeMixture(settings, router, first, down, (shared, gate), plan.Rows) : null;
    }

    /// <inheritdoc/>
    public void Begin(DecodeState state, int layer) => _shared?.Part.Begin(state, layer);

    /// <inheritdoc/>
    public int Parts(int stage, DecodeState state) => stage switch
    {
        0 => _router.Parts(state.Threads),
        1 => _ranges.Count * Chunks(Inner, state.Threads),
        2 => _ranges.Count * Chunks(Hidden, state.Threads),
        _ when stage < Stages - 1 => _shared!.Value.Part.Parts(stage - 3, state),
        _ => state.RowParts,
    };

    /// <inheritdoc/>
    public void Run(int stage, int part, DecodeState state)
    {
        switch (stage)
        {
            case 0:
                _router.Run(part, Parts(0, state), state.Normed);
                break;
            case 1:
                Read(part, Chunks(Inner, state.Threads), state.Half);
                break;
            case 2:
                Write(part, Chunks(Hidden, state.Threads), state.Half);
                break;
            case var _ when stage < Stages - 1:
                _shared!.Value.Part.Run(stage - 3, part, state);
                break;
            default:
                Sum(part, state);
                break;
        }
    }

    /// <inheritdoc/>
    public bool Fetch(int stage, int thread, int threads) => stage is > 2 && stage < Stages - 1 && _shared!.Value.Part.Fetch(stage - 3, thread, threads);

    /// <inheritdoc/>
    public void Finish(int stage, DecodeState state)
    {
        if (stage == 0)
        {
            Choose(state);
        }
        else if (stage == Stages - 1)
        {
            if (state.RowParts == 0)
            {
                Sum(0, state);
            }
        }
        else if (stage > 2)
        {
            _shared!.Value.Part.Finish(stage - 3, state);
        }
    }

    // Number of parts that the outputs of an expert are split into.
    private int Chunks(nint outputs, int threads) => (int)Math.Clamp((PartsOfThread * threads) / Math.Max(1, _ranges.Count), 1, Math.Max(1, outputs / LeastOutputs));

    private static FloatRows Rows(DecodeBuffer buffer, nint width, (int Expert, nint Start, nint Count) range) => new((nint)(buffer.Start + (range.Start * width)), width, range.Count);

    // Chooses the experts of all rows, and brings the rows into their order.
    private void Choose(DecodeState state)
    {
        var count = (int)state.RowCount * _perToken;
        for (var row = 0; row < state.RowCount; row++)
        {
            _router.Choose(row, state.Half, _chosen.AsSpan(row * _perToken, _perToken), _weights.AsSpan(row * _perToken, _perToken));
        }

        _ranges.Clear();
        nint start = 0;
        for (var expert = 0; expert < _first.Count && start < count; expert++)
        {
            var end = start;
            for (var i = 0; i < count; i++)
            {
                if (_chosen[i] == expert)
                {
                    _places[i] = (int)end;
                    new Span<float>(state.Normed[i / _perToken], (int)Hidden).CopyTo(new Span<float>(_input.Start + (end * Hidden), (int)Hidden));
                    end++;
                }
            }

            if (end > start)
            {
                _ranges.Add((expert, start, end - start));
            }

            start = end;
        }

        _shared?.Gate?.RunInner(0, 1, state.Normed);
        _shared?.Gate?.Run(0, 1, state.Normed, new FloatRows((nint)_gates.Start, 1, state.RowCount));
    }

    // The first products of an expert, and what is between its products, for some of the features there.
    private void Read(int part, int chunks, bool half)
    {
        var range = _ranges[part / chunks];
        var (first, last) = (Inner * (part % chunks) / chunks, Inner * ((part % chunks) + 1) / chunks);
        var (input, inner, active) = (Rows(_input, Hidden, range), Rows(_inner, _first.Outputs, range), Rows(_active, Inner, range));
        if (_settings.IsInterleaved)
        {
            _first.Multiply(range.Expert, (2 * first, 2 * last), input, inner, half);
        }
        else
        {
            _first.Multiply(range.Expert, (first, last), input, inner, half);
            if (_settings.HasGate)
            {
                _first.Multiply(range.Expert, (Inner + first, Inner + last), input, inner, half);
            }
        }

        for (nint row = 0; row < range.Count; row++)
        {
            Activate(inner[row], active[row], first, last, half);
        }
    }

    private void Activate(float* inner, float* active, nint first, nint last, bool half)
    {
        if (_settings.Clamp is { } clamp)
        {
            for (var i = first; i < last; i++)
            {
                var (gate, up) = _settings.IsInterleaved ? (inner[2 * i], inner[(2 * i) + 1]) : (inner[i], inner[Inner + i]);
                active[i] = Clamped(gate, up, clamp, half);
            }

            return;
        }

        new Span<float>(inner + first, (int)(last - first)).CopyTo(new Span<float>(active + first, (int)(last - first)));
        if (_settings.HasGate)
        {
            DecodeMath.Gate(active + first, inner + Inner + first, last - first, _settings.Activation, half);
        }
        else
        {
            DecodeMath.Activate(active + first, last - first, _settings.Activation, half);
        }
    }

    // (up + 1) · gate · sigmoid(alpha gate), each operation rounded.
    private static float Clamped(float gate, float up, ClampedGate clamp, bool half)
    {
        var limit = DecodeMath.Round((float)clamp.Limit, half);
        (gate, up) = (Math.Min(gate, limit), Math.Clamp(up, -limit, limit));
        var share = DecodeMath.Round(1 / (1 + MathF.Exp(-DecodeMath.Round(gate * (float)clamp.Alpha, half))), half);
        return DecodeMath.Round(DecodeMath.Round(up + 1, half) * DecodeMath.Round(gate * share, half), half);
    }

    // The second product of an expert, for some of the outputs.
    private void Write(int part, int chunks, bool half)
    {
        var range = _ranges[part / chunks];
        _down.Multiply(range.Expert, (Hidden * (part % chunks) / chunks, Hidden * ((part % chunks) + 1) / chunks), Rows(_active, Inner, range), Rows(_output, Hidden, range), half);
    }

    // The weighted sum of a row's experts, and its shared block.
    private void Sum(nint row, DecodeState state)
    {
        float* given = state.Given[row];
        var half = state.Half;
        var gate = _shared?.Gate is null ? 1 : DecodeMath.Round(1 / (1 + MathF.Exp(-_gates.Start[row])), half);
        for (nint i = 0; i < Hidden; i += Lanes.Width)
        {
            var sum = Vector256<float>.Zero;
            for (nint selection = row * _perToken; selection < (row + 1) * _perToken; selection++)
            {
                sum += DecodeMath.Round(Lanes.Read<Float32Elements>(_output.Start + (_places[selection] * Hidden), i, Hidden) * _weights[selection], half);
            }

            sum = DecodeMath.Round(sum, half);
            if (_shared is not null)
            {
                sum = DecodeMath.Round(sum + DecodeMath.Round(Lanes.Read<Float32Elements>(given, i, Hidden) * gate, half), half);
            }

            Lanes.Write<Float32Elements>(given, i, Hidden, sum);
        }
    }
}
