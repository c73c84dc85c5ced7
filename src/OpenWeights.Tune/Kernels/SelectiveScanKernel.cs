using System.Runtime.Intrinsics;
using static TorchSharp.torch;

namespace OpenWeights.Tune.Kernels;

/// <summary>
/// The recurrence of Mamba (Gu and Dao, 2023) for as many neighbouring channels at a time as a vector has elements: their states stay in the cache
/// from token to token. Backward computes states again from those at the start of each segment of tokens.
/// </summary>
internal static unsafe class SelectiveScanKernel
{
    /// <summary>Tokens of a segment.</summary>
    private const int Segment = 32;

    private static int Width => CpuKernel.IsWide ? Vectors512.Width : Vectors256.Width;

    /// <summary>Whether a recurrence is supported.</summary>
    /// <param name="step">Its time steps, [batch, tokens, channels].</param>
    internal static bool Serves(Tensor step) => CpuKernel.Serves(step) && step.dtype == ScalarType.Float32 && step.size(2) % Width == 0;

    /// <summary>The output, the state after the last token, and the states at the start of each segment; in the caller's dispose scope.</summary>
    internal static (Tensor Output, Tensor Last, Tensor Starts) Forward(SelectiveScanProblem problem)
    {
        var output = empty_like(problem.Step);
        var last = empty([problem.Batch, problem.Size, problem.Channels], float32);
        var starts = empty([problem.Batch * (problem.Channels / Width), (problem.Tokens + Segment - 1) / Segment, problem.Size * Width], float32);
        var (to, end, marks) = ((nint)CpuKernel.Pointer(output), (nint)CpuKernel.Pointer(last), (nint)CpuKernel.Pointer(starts));
        Run(problem, (first, until) =>
        {
            if (CpuKernel.IsWide)
            {
                Forward<Vectors512, Vector512<float>>(problem, first, until, (float*)to, (float*)end, (float*)marks);
            }
            else
            {
                Forward<Vectors256, Vector256<float>>(problem, first, until, (float*)to, (float*)end, (float*)marks);
            }
        });
        return (output, last, starts);
    }

    /// <summary>The gradients, in the caller's dispose scope.</summary>
    /// <param name="problem">The problem.</param>
    /// <param name="starts">The states at the start of each segment.</param>
    /// <param name="output">Gradient of the output.</param>
    /// <param name="last">Gradient of the state after the last token.</param>
    internal static SelectiveScanGradients Backward(SelectiveScanProblem problem, Tensor starts, Tensor output, Tensor last)
    {
        var gradients = new SelectiveScanGradients(
            empty_like(problem.Step), empty_like(problem.Step), zeros_like(problem.Keys), zeros_like(problem.Queries), zeros_like(problem.Rates), last.clone());
        Run(problem, (first, until) =>
        {
            if (CpuKernel.IsWide)
            {
                Backward<Vectors512, Vector512<float>>(problem, first, until, starts, output, gradients);
            }
            else
            {
                Backward<Vectors256, Vector256<float>>(problem, first, until, starts, output, gradients);
            }
        });
        return gradients;
    }

    private static void Run(SelectiveScanProblem problem, Action<long, long> work) =>
        CpuKernel.Run(problem.Batch * (problem.Channels / Width), problem.Tokens * problem.Size * Width, work);

    private static void Forward<TVectors, TVector>(SelectiveScanProblem problem, long first, long until, float* output, float* last, float* starts)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var lane = new Lane(problem, TVectors.Width);
        var states = new float[lane.Numbers];
        fixed (float* held = states)
        {
            for (var row = first; row < until; row++)
            {
                lane.Move(row);
                lane.Begin(held);
                var marks = starts + (row * lane.Segments * lane.Numbers);
                for (var t = 0L; t < problem.Tokens; t++)
                {
                    if (t % Segment == 0)
                    {
                        Buffer.MemoryCopy(held, marks + (t / Segment * lane.Numbers), lane.Numbers * sizeof(float), lane.Numbers * sizeof(float));
                    }

                    TVectors.Store(output + lane.At(t), Advance<TVectors, TVector>(lane, t, held, null));
                }

                lane.End(held, last);
            }
        }
    }

    // Takes in a token: the states become those after it. Returns the output; writes the decays, if they are asked for.
    private static TVector Advance<TVectors, TVector>(Lane lane, long token, float* states, float* decays)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        lane.Restart(token, states);
        var step = TVectors.Load(lane.Step + lane.At(token));
        var taken = TVectors.Multiply(step, TVectors.Load(lane.X + lane.At(token)));
        var keys = lane.Keys + lane.Row(token);
        var queries = lane.Queries + lane.Row(token);
        var sum = TVectors.Zero;
        for (nint n = 0; n < lane.Size; n++)
        {
            var decay = VectorFunctions.Exponential<TVectors, TVector>(TVectors.Multiply(step, TVectors.Load(lane.Rate(n))));
            var state = TVectors.MultiplyAdd(decay, TVectors.Load(states + (n * TVectors.Width)), TVectors.Multiply(taken, TVectors.Create(keys[n])));
            TVectors.Store(states + (n * TVectors.Width), state);
            sum = TVectors.MultiplyAdd(state, TVectors.Create(queries[n]), sum);
            if (decays != null)
            {
                TVectors.Store(decays + (n * TVectors.Width), decay);
            }
        }

        return sum;
    }

    private static void Backward<TVectors, TVector>(SelectiveScanProblem problem, long first, long until, Tensor starts, Tensor output, SelectiveScanGradients gradients)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var lane = new Lane(problem, TVectors.Width);
        var sums = new Sums(problem);
        var (states, decays) = (new float[(Segment + 1) * lane.Numbers], new float[Segment * lane.Numbers]);
        fixed (float* held = states, shares = decays, keys = sums.Keys, queries = sums.Queries, rates = sums.Rates)
        {
            var to = new Destination((float*)CpuKernel.Pointer(gradients.Step), (float*)CpuKernel.Pointer(gradients.X), keys, queries, rates, (float*)CpuKernel.Pointer(gradients.State));
            var given = (float*)CpuKernel.Pointer(output);
            var marks = (float*)CpuKernel.Pointer(starts);
            for (var row = first; row < until; row++)
            {
                lane.Move(row);
                for (var segment = lane.Segments - 1; segment >= 0; segment--)
                {
                    var (start, count) = (segment * Segment, Math.Min(Segment, problem.Tokens - (segment * Segment)));
                    Buffer.MemoryCopy(marks + (((row * lane.Segments) + segment) * lane.Numbers), held, lane.Numbers * sizeof(float), lane.Numbers * sizeof(float));
                    for (var i = 0L; i < count; i++)
                    {
                        // The states before each token, with those of another document taken away, and after the last.
                        var own = held + (i * lane.Numbers);
                        lane.Restart(start + i, own);
                        Buffer.MemoryCopy(own, own + lane.Numbers, lane.Numbers * sizeof(float), lane.Numbers * sizeof(float));
                        _ = Advance<TVectors, TVector>(lane, start + i, own + lane.Numbers, shares + (i * lane.Numbers));
                    }

                    for (var i = count - 1; i >= 0; i--)
                    {
                        Back<TVectors, TVector>(lane, start + i, TVectors.Load(given + lane.At(start + i)), held + (i * lane.Numbers), shares + (i * lane.Numbers), to);
                    }
                }
            }
        }

        sums.AddTo(gradients);
    }

    // The gradients by way of a token, from that of its output and those of the states after it, which become those before it.
    private static void Back<TVectors, TVector>(Lane lane, long token, TVector given, float* before, float* decays, Destination to)
        where TVectors : struct, IVectors<TVector>
        where TVector : struct
    {
        var (step, x) = (TVectors.Load(lane.Step + lane.At(token)), TVectors.Load(lane.X + lane.At(token)));
        var (taken, ofStep, ofTaken) = (TVectors.Multiply(step, x), TVectors.Zero, TVectors.Zero);
        var row = lane.Row(token);
        var keys = lane.Keys + row;
        var queries = lane.Queries + row;
        var restarts = lane.Restarts(token);
        for (nint n = 0; n < lane.Size; n++)
        {
            var at = n * TVectors.Width;
            var of = to.State + lane.State(n);
            var ofState = TVectors.MultiplyAdd(given, TVectors.Create(queries[n]), TVectors.Load(of));
            var (decay, last) = (TVectors.Load(decays + at), TVectors.Load(before + at));
            var state = TVectors.MultiplyAdd(decay, last, TVectors.Multiply(taken, TVectors.Create(keys[n])));
            to.Queries[row + n] += TVectors.Sum(TVectors.Multiply(given, state));
            to.Keys[row + n] += TVectors.Sum(TVectors.Multiply(ofState, taken));
            ofTaken = TVectors.MultiplyAdd(ofState, TVectors.Create(keys[n]), ofTaken);
            var ofLast = TVectors.Multiply(ofState, decay);
            var ofPower = TVectors.Multiply(ofLast, last);
            ofStep = TVectors.MultiplyAdd(ofPower, TVectors.Load(lane.Rate(n)), ofStep);
            var rate = to.Rates + lane.Rated(n);
            TVectors.Store(rate, TVectors.MultiplyAdd(ofPower, step, TVectors.Load(rate)));
            TVectors.Store(of, restarts ? TVectors.Zero : ofLast);
        }

        TVectors.Store(to.Step + lane.At(token), TVectors.MultiplyAdd(ofTaken, x, ofStep));
        TVectors.Store(to.X + lane.At(token), TVectors.Multiply(ofTaken, step));
    }

    private readonly record struct Destination(nint StepAt, nint XAt, nint KeysAt, nint QueriesAt, nint RatesAt, nint StateAt)
    {
        internal Destination(float* step, float* x, float* keys, float* queries, float* rates, float* state)
            : this((nint)step, (nint)x, (nint)keys, (nint)queries, (nint)rates, (nint)state)
        {
        }

        internal float* Step => (float*)StepAt;

        internal float* X => (float*)XAt;

        internal float* Keys => (float*)KeysAt;

        internal float* Queries => (float*)QueriesAt;

        internal float* Rates => (float*)RatesAt;

        internal float* State => (float*)StateAt;
    }

    /// <summary>A row of the batch, and the neighbouring channels that a vector holds.</summary>
    private sealed class Lane(SelectiveScanProblem problem, int width)
    {
        private readonly float* _rates = (float*)CpuKernel.Pointer(problem.Rates);
        private readonly float* _state = problem.State is { } state ? (float*)CpuKernel.Pointer(state) : null;
        private readonly float* _continues = problem.Continues is { } continues ? (float*)CpuKernel.Pointer(continues) : null;
        private long _row;
        private long _channel;

        internal float* Step { get; } = (float*)CpuKernel.Pointer(problem.Step);

        internal float* X { get; } = (float*)CpuKernel.Pointer(problem.X);

        internal float* Keys { get; } = (float*)CpuKernel.Pointer(problem.Keys);

        internal float* Queries { get; } = (float*)CpuKernel.Pointer(problem.Queries);

        internal nint Size { get; } = (nint)problem.Size;

        /// <summary>Numbers of its states.</summary>
        internal long Numbers { get; } = problem.Size * width;

        internal long Segments { get; } = (problem.Tokens + Segment - 1) / Segment;

        internal void Move(long index)
        {
            var lanes = problem.Channels / width;
            (_row, _channel) = (index / lanes, index % lanes * width);
        }

        /// <summary>Where a token's channels begin in [batch, tokens, channels].</summary>
        internal long At(long token) => ((((_row * problem.Tokens) + token) * problem.Channels) + _channel);

        /// <summary>Where a token's row begins in [batch, tokens, state size].</summary>
        internal long Row(long token) => ((_row * problem.Tokens) + token) * problem.Size;

        internal long Rated(nint n) => (n * problem.Channels) + _channel;

        internal float* Rate(nint n) => _rates + Rated(n);

        /// <summary>Where the channels' states begin in [batch, state size, channels].</summary>
        internal long State(nint n) => (((_row * problem.Size) + n) * problem.Channels) + _channel;

        internal bool Restarts(long token) => _continues != null && _continues[(_row * problem.Tokens) + token] == 0;

        internal void Restart(long token, float* states)
        {
            if (Restarts(token))
            {
                new Span<float>(states, (int)Numbers).Clear();
            }
        }

        internal void Begin(float* states)
        {
            for (nint n = 0; n < Size; n++)
            {
                var own = new Span<float>(states + (n * width), width);
                if (_state == null)
                {
                    own.Clear();
                }
                else
                {
                    new ReadOnlySpan<float>(_state + State(n), width).CopyTo(own);
                }
            }
        }

        internal void End(float* states, float* last)
        {
            for (nint n = 0; n < Size; n++)
            {
                new ReadOnlySpan<float>(states + (n * width), width).CopyTo(new Span<float>(last + State(n), width));
            }
        }
    }

    /// <summary>A thread's part of the gradients that all channels, or all rows, share.</summary>
    private sealed class Sums(SelectiveScanProblem problem)
    {
        internal float[] Keys { get; } = new float[problem.Keys.numel()];

        internal float[] Queries { get; } = new float[problem.Queries.numel()];

        internal float[] Rates { get; } = new float[problem.Rates.numel()];

        internal void AddTo(SelectiveScanGradients gradients)
        {
            lock (gradients)
            {
                Add(Keys, gradients.Keys);
                Add(Queries, gradients.Queries);
                Add(Rates, gradients.Rates);
            }
        }

        private static void Add(float[] part, Tensor sum)
        {
            var to = new Span<float>(CpuKernel.Pointer(sum), part.Length);
            for (var i = 0; i < part.Length; i++)
            {
                to[i] += part[i];
            }
        }
    }
}

/// <summary>What the recurrence of Mamba computes with; all contiguous, in float32.</summary>
/// <param name="Step">Time steps, [batch, tokens, channels].</param>
/// <param name="X">What is taken in, of the same shape.</param>
/// <param name="Keys">B, [batch, tokens, state size].</param>
/// <param name="Queries">C, of the same shape.</param>
/// <param name="Rates">A, [state size, channels].</param>
/// <param name="Continues">1 for a token of the same document as the one before, else 0, [batch, tokens]; null where all are.</param>
/// <param name="State">The state before the first token, [batch, state size, channels]; null for zeros.</param>
internal sealed record SelectiveScanProblem(Tensor Step, Tensor X, Tensor Keys, Tensor Queries, Tensor Rates, Tensor? Continues, Tensor? State)
{
    internal long Batch { get; } = Step.size(0);

    internal long Tokens { get; } = Step.size(1);

    internal long Channels { get; } = Step.size(2);

    internal long Size { get; } = Keys.size(2);
}

/// <summary>Gradients of what a <see cref="SelectiveScanProblem"/> consists of.</summary>
internal sealed record SelectiveScanGradients(Tensor Step, Tensor X, Tensor Keys, Tensor Queries, Tensor Rates, Tensor State);
